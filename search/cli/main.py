"""The command line. Exit codes: 0 done, 1 failed, 2 the user's input is wrong, 130 interrupted."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from search.cli.cluster import app as cluster_app
from search.errors import Halted, Interrupted, SweepFailed, UserError
from search.runs.folder import RUNS_DIR, SWEEP_FILE, Run, command, relative, runs_folder

if TYPE_CHECKING:  # each command imports what it needs, so that the others answer at once
    from search.sweep.driver import Outcome

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Pareto-optimal settings of the I-SCE loss between clean and robust accuracy.",
)
data_app = typer.Typer(no_args_is_help=True, help="Data sets: where they are, and getting them.")
app.add_typer(data_app, name="data")
app.add_typer(cluster_app, name="cluster")

RunsDir = Annotated[
    Path,
    typer.Option(
        "--runs-dir",
        metavar="FOLDER|URL",
        parser=runs_folder,
        help="Folder of the runs, or URL, e.g. s3://BUCKET/FOLDER.",
    ),
]
Config = Annotated[Path, typer.Argument(help="Configuration, e.g. configs/quickstart.yaml.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run under the runs folder, its path, or its URL.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. search.trials=6.")
]
Address = Annotated[str | None, typer.Option(help="HOST:PORT of a Ray cluster, or auto; this machine without it.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors and the result's folder.")]
Output = Annotated[Path | None, typer.Option(help="Write to this file instead of the terminal.")]


@app.command()
def sweep(
    config: Config,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the run, in place of the configuration's.")] = None,
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
    quiet: Quiet = False,
) -> None:
    """Search a loss's parameters for the best of clean and robust accuracy, and draw what was found."""
    from search.config.schema import load
    from search.sweep.driver import start

    resolved, console = load(config, overrides or [], name), Console()
    with _telling_how_to_go_on(console, Run(runs_dir.absolute() / resolved.name, resolved)):
        run, outcome = start(resolved, runs_dir, address, console, quiet)
    _print_end(console, run, outcome, quiet)


@app.command()
def resume(run: RunName, address: Address = None, runs_dir: RunsDir = RUNS_DIR, quiet: Quiet = False) -> None:
    """Go on with a run that was interrupted, or whose machine died: nothing that was finished is done again."""
    from search.sweep.driver import resume as go_on

    opened, console = Run.open(run, runs_dir), Console()
    with _telling_how_to_go_on(console, opened):
        outcome = go_on(opened, address, console, quiet)
    _print_end(console, opened, outcome, quiet)


@app.command()
def status(
    run: RunName,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    verify: Annotated[
        bool, typer.Option(help="Compare trials.csv and MLflow with the ledger, row by row, unless it runs (seconds).")
    ] = True,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Tell how far a run is, also from another terminal, and whether its records agree."""
    from search.cli.status import print_status, read_status

    current = read_status(run, runs_dir, verify=verify)
    if as_json:
        print(json.dumps(current.to_json(), indent=2))
    else:
        print_status(Console(), current)


@app.command()
def train(
    config: Config,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the loss, e.g. s=1.0.")
    ] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the checkpoint, outcomes and result.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Train and attack one setting, without Ray: the numbers are those of the trial with the same configuration."""
    from search.config.schema import load
    from search.evaluation.single import train_setting

    train_setting(load(config, overrides or []), param or [], output, runs_dir, Console())


@app.command()
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder of checkpoints, one of them, or RUN/NUMBER.")
    ],
    attack: Annotated[
        list[str] | None,
        typer.Option(
            "--attack", help="E.g. autoattack, or '{name: apgd, loss: dlr}'; repeatable; the run's own if none."
        ),
    ] = None,
    epsilon: Annotated[str | None, typer.Option(help="Radii, e.g. 0.5,1,1.5; the run's own without it.")] = None,
    overrides: Overrides = None,
    split: Annotated[
        Literal["validation", "test"],
        typer.Option(help="Which images. Each opening of the test split is written down and counted."),
    ] = "validation",
    output: Annotated[Path | None, typer.Option(help="Folder for the table, the curves and the outcomes.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Attack a trained model anew: accuracy by attack and radius, as a table and as curves."""
    from search.evaluation.checkpoints import Checkpoint
    from search.evaluation.evaluate import configured, evaluate_checkpoint

    found = Checkpoint.find(checkpoint, runs_dir)
    config = configured(found.config, attack or [], epsilon, overrides or [])
    evaluate_checkpoint(found, config, split, output, context.obj, Console())


@app.command()
def audit(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CHECKPOINT", help="A finished run, a folder of checkpoints, one of them, or RUN/NUMBER."
        ),
    ],
    profile: Annotated[
        Literal["quick", "reference"],
        typer.Option(help="quick (minutes) or reference (AutoAttack, 10,000 random draws)."),
    ] = "quick",
    images: Annotated[
        int | None, typer.Option(min=1, help="Validation images, from the first on; at least the profile's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything that is drawn.")] = 0,
    at_random: Annotated[
        int,
        typer.Option("--random", min=0, help="Of a run: so many settings beside the contenders."),
    ] = 0,
    overrides: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder for audit.json, audit.npz and audit.html.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Say whether a robust accuracy can be believed, that of a model or of a run's contenders: attack it harder."""
    from search.evaluation.audit import audit_checkpoint
    from search.evaluation.checkpoints import Checkpoint
    from search.evaluation.evaluate import configured

    if Run.find(subject, runs_dir) is not None:
        given = {"--images": images, "--seed": seed, "--set": overrides, "--output": output}
        _audit_run(Run.open(subject, runs_dir), profile, at_random, given)
        return
    if at_random:
        raise UserError(f"--random is for a run, got it for {subject}; leave it out")
    found = Checkpoint.find(subject, runs_dir)
    config = configured(found.config, [], None, overrides or [])
    audit_checkpoint(found, config, profile, images, seed, output, Console())


def _audit_run(run: Run, profile: Literal["quick", "reference"], at_random: int, given: Mapping[str, object]) -> None:
    from search.sweep.driver import audit_run

    for name, value in given.items():
        if value:
            raise UserError(f"{name} must be left out for a run, got it for {run.name}; audit one trial as RUN/NUMBER")
    console = Console()
    with _telling_how_to_go_on(console, run, "audit"):
        outcome = audit_run(run, profile, at_random, console)
    _print_end(console, run, outcome, quiet=False)


@app.command()
def pareto(
    context: typer.Context,
    run: RunName,
    format_: Annotated[
        Literal["table", "json", "yaml", "csv"], typer.Option("--format", help="How to print it.")
    ] = "table",
    verify: Annotated[
        bool, typer.Option("--verify", help="First evaluate them, and the baselines, on the test split, once each.")
    ] = False,
    output: Output = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print or export the Pareto-optimal settings, ready to be used."""
    from analysis import export_front, pareto_front
    from search.cli.status import read_records
    from search.evaluation.test_split import read_verification, verify_front
    from search.results.tables import front_table, settings_of

    opened = Run.open(run, runs_dir)
    if verify:
        verify_front(opened, context.obj, Console(stderr=True))
    records = settings_of(opened, read_records(opened))
    front = pareto_front(records, opened.config.objectives)
    verification = read_verification(opened, records)
    if format_ == "table":
        with output.open("w", encoding="utf-8") if output else sys.stdout as file:
            Console(file=file).print(front_table(opened, records, front, verification))
        return
    config = str(relative(opened.folder / SWEEP_FILE))
    text = export_front(front, opened.config.objectives, format_, config, verification)
    if output is None:
        print(text, end="")
    else:
        output.write_text(text, encoding="utf-8")


@app.command()
def surfaces(run: RunName, runs_dir: RunsDir = RUNS_DIR) -> None:
    """Draw accuracy over the loss's parameters, as the paper's Figure 4: clean, worst case, and each attack."""
    from search.cli.status import read_records
    from search.results.tables import draw_run_surfaces

    opened = Run.open(run, runs_dir)
    drawn = draw_run_surfaces(opened, read_records(opened))
    if not drawn.files:
        raise UserError(drawn.note)
    opened.share(*drawn.files)
    for path in drawn.files:
        print(relative(path))
    if drawn.note:
        print(drawn.note)


@app.command()
def ui(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Link straight to this run.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Browse the runs in MLflow."""
    from search.config.schema import TrackingConfig
    from search.runs.folder import ARTIFACTS, default_tracking_uri
    from search.tracking.ui import serve_ui

    opened = Run.open(run, runs_dir) if run is not None else None
    serve_ui(
        opened.tracking_uri if opened else default_tracking_uri(runs_dir),
        opened.artifacts if opened else runs_dir.absolute() / ARTIFACTS,
        experiment=opened.config.tracking.experiment if opened else TrackingConfig().experiment,
        sweep=opened.name if opened else None,
        port=port,
    )


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Option(help="Also check what this configuration needs.")] = None,
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Check Python, torch and GPU, Ray, data, disk and versions, each with a remedy."""
    from search.cli.doctor import diagnose, print_findings

    if not print_findings(Console(), diagnose(config, address, runs_dir)):
        raise typer.Exit(FAILED)


@data_app.command("list")
def data_list(root: Annotated[Path | None, typer.Option(help="Folder of the files.")] = None) -> None:
    """List the data sets, where they are, and what gets those that are not here."""
    from rich.table import Table

    from trainables.data.sources import list_datasets

    table = Table(header_style="bold")
    for column in ("name", "what", "where, or the command that gets it"):
        table.add_column(column, overflow="fold")
    for entry in list_datasets(None if root is None else str(root)):
        table.add_row(entry.name, entry.summary, entry.location or f"[yellow]{entry.command}[/yellow]")
    Console().print(table)


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="mnist5k, mnist, fashion-mnist or cifar10.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the files.")] = None,
) -> None:
    """Find, download or parse a data set, so that sweeps start at once."""
    from trainables.data.sources import prepare
    from trainables.settings import DataSettings

    try:
        settings = DataSettings(name=name, root=None if root is None else str(root))  # type: ignore[arg-type]
        prepared = prepare(settings)
    except ValueError as error:
        raise UserError(str(error)) from None
    print(f"{name}: {prepared.images} images from {prepared.location}, sha256 {prepared.digest[:16]}")


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # the libraries' warnings are for their developers
    errors = Console(stderr=True)
    try:
        # Whoever writes down what the user typed finds it in the context.
        code = typer.main.get_command(app).main(
            list(arguments), prog_name="robustfront", standalone_mode=False, obj=shlex.join(["robustfront", *arguments])
        )
    except typer.TyperException as error:  # what Typer itself finds wrong with the arguments
        context = getattr(error, "ctx", None)
        if context is not None and not getattr(error, "message", ""):  # nothing was asked: its help is the answer
            print(context.get_help())
            return WRONG_INPUT
        describe = getattr(error, "format_message", error.__str__)
        message = describe().rstrip(".").replace("Value error, ", "")
        remedy = f"; see `{context.command_path} --help`" if context is not None else ""
        _say_error(errors, f"{message}{remedy}")
        return WRONG_INPUT
    except UserError as error:
        _say_error(errors, str(error))
        return WRONG_INPUT
    except (SweepFailed, Halted) as error:
        _say_error(errors, str(error))
        return FAILED
    except (Interrupted, KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


def main() -> None:
    """Entry point of the ``robustfront`` script."""
    sys.exit(run(sys.argv[1:]))


def _say_error(console: Console, message: str) -> None:
    console.print(f"[red]robustfront:[/red] {message.replace('[', chr(92) + '[')}", highlight=False, soft_wrap=True)


@contextmanager
def _telling_how_to_go_on(console: Console, run: Run, verb: str = "resume") -> Iterator[None]:
    try:
        yield
    except Interrupted:
        go_on = command(verb, run.argument)
        console.print(f"\nInterrupted; everything is kept. Go on with `{go_on}`", highlight=False, soft_wrap=True)
        raise


def _print_end(console: Console, run: Run, outcome: Outcome, quiet: bool) -> None:
    from search.results.tables import print_summary

    if quiet:
        console.print(str(relative(run.folder)), highlight=False, soft_wrap=True)
    else:
        print_summary(console, run, outcome.results, outcome.seconds)
