"""The command line: what each command takes, and how an error becomes one line and an exit code.

Each command imports what it needs, so that the others answer at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from search.cli.cluster import NewName, Overrides, folded_table
from search.cli.cluster import app as cluster_app
from search.cli.imports import app as import_app
from search.cli.options import Address, Config, Quiet, RunName, RunsDir, typed
from search.cli.results import COMMANDS as RESULTS_COMMANDS
from search.errors import DONE, FAILED, INTERRUPTED, WRONG_INPUT, RobustfrontError, UserError
from search.runs.layout import ARTIFACTS, RUNS_DIR

if TYPE_CHECKING:
    from search.runs.folder import Run
    from search.sweep.driver import Outcome


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pareto-optimal settings of a loss between clean and robust accuracy.",
)
data_app = typer.Typer(no_args_is_help=True, help="List and prepare data sets.")
app.add_typer(data_app, name="data")
app.add_typer(cluster_app, name="cluster")
app.add_typer(import_app, name="import")

Attacks = Annotated[
    list[str] | None,
    Option(help="E.g. autoattack, or '{name: apgd, loss: dlr}'; repeatable. Default: the run's own."),
]
DataRoot = Annotated[str | None, Option(metavar="FOLDER", help="Folder of the files.")]
Profile = Literal["quick", "reference"]
SplitName = Literal["validation", "test"]
SampledSplit = Literal["test", "validation", "all"]
Norm = Literal["l2", "linf"]
Device = Literal["cpu", "cuda"]
OfModule = partial(Option, rich_help_panel="Options for a module")

_console = partial(Console, highlight=False)


@app.command()
def sweep(
    config: Config,
    overrides: Overrides = None,
    name: NewName = None,
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
    quiet: Quiet = False,
) -> None:
    """Search a loss's parameters for the best clean and robust accuracy, and draw the results."""
    from search.config import load
    from search.sweep.driver import start

    console = _console()
    run, outcome = start(load(config, overrides or [], name), runs_dir, address, console, quiet)
    _print_end(console, run, outcome, quiet)


@app.command()
def compare(
    context: typer.Context,
    configs: Annotated[
        list[Path], Argument(metavar="CONFIG...", help="One configuration per method, e.g. configs/methods/*.yaml.")
    ],
    profile: Annotated[
        Literal["quick", "full"], Option(help="quick: reference settings, five seeds each; full: a search per method.")
    ] = "full",
    overrides: Overrides = None,
    name: Annotated[str, Option(help="Name of the comparison; its sweeps are NAME-METHOD.")] = "comparison",
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
    quiet: Quiet = False,
) -> None:
    """Compare methods: one sweep each under equal conditions, then a leaderboard. Run it again to resume."""
    from search.results.tables import leaderboard_table, print_table
    from search.runs.folder import command
    from search.sweep.compare import compare as compare_methods
    from search.sweep.compare import read_methods

    console, methods = _console(), read_methods(configs, profile, overrides or [], name)
    again = command(typed(context).removeprefix("robustfront "))
    document, files = compare_methods(methods, profile, name, again, runs_dir, address, console, quiet)
    if not quiet:
        print_table(console, leaderboard_table(document))
    print(*files, sep="\n")


@app.command()
def reproduce(
    context: typer.Context,
    name: Annotated[str | None, Argument(metavar="NAME", help="figure-3 ... figure-12, table-1 ..., or all.")] = None,
    profile: Annotated[
        Literal["quick", "paper"], Option(help="quick: small data and LeNet-5; paper: the full protocol, for GPUs.")
    ] = "quick",
    show: Annotated[
        bool, Option("--list", help="List the experiments, what they need, and what is left to train.")
    ] = False,
    estimate: Annotated[bool, Option("--estimate", help="Time one unit per sweep and print the total time.")] = False,
    from_table: Annotated[
        bool, Option("--from-table", help="Only write text and figures, from the existing table.")
    ] = False,
    prefix: Annotated[str, Option("--name", help="Prefix of the sweeps: NAME-POOL-METHOD.")] = "reproduce",
    overrides: Overrides = None,
    results: Annotated[
        Path | None, Option(metavar="FOLDER", help="For tables, text, figures. Default: configs/experiments/results.")
    ] = None,
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
    quiet: Quiet = False,
) -> None:
    """Reproduce a table or figure of the paper and add a sound evaluation. Repeat the command to continue."""
    from search.cli.reproduce import estimate_costs, list_experiments, make_job, run_or_rewrite
    from search.runs.folder import command

    console, job, folder = _console(), *make_job(name, show, profile, prefix, runs_dir, overrides or [], results)
    if show:
        list_experiments(console, job, folder)
    elif estimate:
        estimate_costs(console, job)
    else:
        again = None if from_table else command(typed(context).removeprefix("robustfront "))
        print(*run_or_rewrite(console, job, folder, again, address, quiet), sep="\n")


@app.command()
def resume(
    run: RunName,
    more: Annotated[int | None, Option(min=1, metavar="UNITS", help="Add so many units to a finished search.")] = None,
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
    quiet: Quiet = False,
) -> None:
    """Resume a run that was interrupted or whose machine died. Finished trials are not repeated."""
    from search.runs.folder import Run
    from search.sweep.driver import resume as resume_run

    opened, console = Run.open(run, runs_dir), _console()
    if more is not None:
        from search.sweep.more import with_more_units

        opened, lines = with_more_units(opened, more)
        if not quiet:
            console.print(*lines, sep="\n", highlight=False)
    _print_end(console, opened, resume_run(opened, address, console, quiet), quiet)


@app.command()
def status(
    run: RunName,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
    reconcile: Annotated[bool, Option(help="Compare trials.csv and MLflow with the ledger, if no driver runs.")] = True,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Show how far a run is, also from another terminal, and whether its records agree."""
    from search.cli.status import print_status, read_status

    current = read_status(run, runs_dir, reconciled=reconcile)
    if as_json:
        print(json.dumps(current.to_json(), indent=2))
    else:
        print_status(_console(), current)


@app.command()
def train(
    config: Config,
    param: Annotated[list[str] | None, Option(metavar="NAME=VALUE", help="A parameter, e.g. s=1.0.")] = None,
    overrides: Overrides = None,
    output: Annotated[Path | None, Option(help="Folder for the checkpoint, outcomes and result.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Train and attack one setting without Ray; a trial with the same configuration has the same numbers."""
    from search.config import load
    from search.evaluation.single import train_setting

    train_setting(load(config, overrides or []), param or [], output, runs_dir, _console())


@app.command()
def evaluate(
    context: typer.Context,
    checkpoint: Annotated[
        str, Argument(metavar="CHECKPOINT", help="Folder of checkpoints, one of them, or RUN/NUMBER.")
    ],
    attack: Attacks = None,
    epsilon: Annotated[str | None, Option(help="Radii, e.g. 0.5,1,1.5. Default: the run's own.")] = None,
    overrides: Overrides = None,
    split: Annotated[SplitName, Option(help="Which images; each opening of test is recorded.")] = "validation",
    output: Annotated[Path | None, Option(help="Folder for the table, curves and outcomes.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Attack a trained model again: accuracy by attack and radius, as a table and as curves."""
    from search.evaluation.evaluate import configured, evaluate_checkpoint
    from search.runs.checkpoints import Checkpoint

    model = Checkpoint.find(checkpoint, runs_dir)
    config = configured(model.config, attack or [], epsilon, overrides or [])
    evaluate_checkpoint(model, config, split, output, typed(context), _console())


@app.command()
def audit(
    context: typer.Context,
    subject: Annotated[
        str,
        Argument(
            metavar="RUN|CHECKPOINT|MODULE",
            help="A finished run, a model as for evaluate, or package.module:factory of any torch module.",
        ),
    ],
    profile: Annotated[Profile, Option(help="quick (minutes) or reference (with AutoAttack).")] = "quick",
    images: Annotated[int | None, Option(min=1, help="Number of images; at least the profile's 500 or 1000.")] = None,
    seed: Annotated[int, Option(min=0, max=2**32 - 1, help="Seed of the audit.")] = 0,
    device: Annotated[Device | None, Option(help="Default: a GPU if there is one.")] = None,
    at_random: Annotated[int, Option("--random", min=0, help="For a run: also audit this many random settings.")] = 0,
    overrides: Overrides = None,
    output: Annotated[Path | None, Option(help="Folder for audit.json, audit.npz and audit.html.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
    weights: Annotated[Path | None, OfModule(metavar="FILE", help="Its state dict, from torch.save.")] = None,
    data: Annotated[str | None, OfModule(metavar="NAME|FOLDER", help="Data set, or pictures by class.")] = None,
    root: Annotated[str | None, OfModule(metavar="FOLDER", help="Folder of the data set's files.")] = None,
    split: Annotated[
        SampledSplit | None, OfModule(help="Default: test, else validation; all of a folder without these.")
    ] = None,
    size: Annotated[int | None, OfModule(min=1, help="Resize the images to this many pixels a side.")] = None,
    epsilon: Annotated[str | None, OfModule(help="Radius on pixels in [0, 1], e.g. 0.5 or 8/255.")] = None,
    norm: Annotated[Norm | None, OfModule(help="Of the radius. Default: l2.")] = None,
    mean: Annotated[str | None, OfModule(help="If it expects normalised images, e.g. 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, OfModule(help="As --mean. Default: images in [0, 1].")] = None,
) -> None:
    """Attack a model, or a run's contenders, harder, and say whether the robust accuracy can be believed."""
    from search.evaluation.audit import audit_checkpoint
    from search.evaluation.evaluate import configured
    from search.evaluation.module_audit import ModuleSettings, audit_module, is_module
    from search.runs.checkpoints import Checkpoint
    from search.runs.folder import Run

    cuda = _uses_cuda(device)
    module = ModuleSettings(
        module=subject,
        weights=weights,
        data=data,
        root=root,
        size=size,
        split=split,
        epsilon=epsilon,
        norm=norm,
        mean=mean,
        std=std,
    )
    if is_module(subject):
        _refuse({"random": at_random, "set": overrides}, f"a module, got it for {subject}; remove it")
        audit_module(module, profile, images, seed, cuda, output, runs_dir, typed(context), _console())
        return
    given = {name: value for name, value in asdict(module).items() if name != "module"}
    _refuse(given, f"a run or checkpoint, got it for {subject}; it is for package.module:factory")
    if Run.find(subject, runs_dir) is not None:
        from search.sweep.driver import audit_run

        run = Run.open(subject, runs_dir)
        _refuse(
            {"images": images, "seed": seed, "device": device, "set": overrides, "output": output},
            f"a run, got it for {run.name}; audit one trial as RUN/NUMBER",
        )
        console = _console()
        _print_end(console, run, audit_run(run, profile, at_random, console), quiet=False)
        return
    _refuse({"random": at_random}, f"a checkpoint, got it for {subject}; give a run")
    model = Checkpoint.find(subject, runs_dir)
    config = configured(model.config, [], None, overrides or [])
    audit_checkpoint(model, config, profile, images, seed, cuda, output, _console())


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuses options that were given although they do not apply."""
    for name, value in options.items():
        if value:
            raise UserError(f"--{name} must be left out for {why}")


def _uses_cuda(device: Device | None) -> bool | None:
    """Whether to use a GPU; None to use one if there is one."""
    if device != "cuda":
        return None if device is None else False
    import torch

    if not torch.cuda.is_available():
        raise UserError("--device must be cpu where torch finds no GPU, got cuda; leave it out")
    return True


for results_command in RESULTS_COMMANDS:
    app.command()(results_command)


@app.command()
def ui(
    run: Annotated[str | None, Argument(metavar="[RUN]", help="Link straight to this run.")] = None,
    optuna: Annotated[bool, Option("--optuna", help="Open RUN's study in optuna-dashboard instead.")] = False,
    port: Annotated[int, Option(min=1, max=65535, help="TCP port on this machine.")] = 5000,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Browse the runs in MLflow, or a run's study in optuna-dashboard."""
    from search.config import TrackingConfig
    from search.runs.folder import Run, default_tracking_uri
    from search.tracking.ui import serve_ui

    opened = Run.open(run, runs_dir) if run is not None else None
    if optuna:
        from search.study import serve_dashboard

        if opened is None:
            raise UserError("RUN must be given with --optuna, got none; choose one from `robustfront runs`")
        serve_dashboard(opened, port)
        return
    serve_ui(
        opened.tracking_uri if opened else default_tracking_uri(runs_dir),
        (opened.folder.parent if opened else runs_dir.absolute()) / ARTIFACTS,
        experiment=opened.config.tracking.experiment if opened else TrackingConfig().experiment,
        sweep=opened.name if opened else None,
        port=port,
    )


@app.command()
def doctor(
    config: Annotated[Path | None, Option(help="Also check what this configuration needs.")] = None,
    address: Address = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Check Python, torch, GPU, Ray, data, disk and versions, and name a remedy for each problem."""
    from search.cli.doctor import diagnose, print_findings

    if not print_findings(_console(), diagnose(config, address, runs_dir)):
        raise typer.Exit(FAILED)


@data_app.command("list")
def data_list(root: DataRoot = None) -> None:
    """List the data sets, where they are, and how to get the missing ones."""
    from trainables.data import Dataset
    from trainables.registry import make, names

    table = folded_table(None, "name", "what", "where, or the command that gets it")
    for name in names("data"):
        dataset = make("data", name)
        assert isinstance(dataset, Dataset)
        table.add_row(name, dataset.summary, dataset.locate(root) or f"[yellow]{dataset.remedy(root)}[/yellow]")
    _console().print(table)


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, Argument(help="A name from `data list`, or package.module:factory.")],
    root: DataRoot = None,
) -> None:
    """Find, download or parse a data set, so that sweeps start at once."""
    from trainables.data.partition.digests import prepare
    from trainables.settings import DataSettings

    try:
        settings = DataSettings.from_document({"name": name, "root": root})
        prepared = prepare(settings, test=True)
    except ValueError as error:
        raise UserError(str(error)) from None
    print(f"{name}: {sum(prepared.sizes.values())} images from {prepared.location}, sha256 {prepared.pool_digest[:16]}")


def run(arguments: Sequence[str]) -> int:
    """Runs what was typed after ``robustfront`` and returns the exit code; an error becomes one line on stderr."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # the libraries' warnings are for their developers
    try:
        # Commands that record what the user typed find it in the context.
        program = typer.main.get_command(app)
        code = program.main(list(arguments), "robustfront", standalone_mode=False, obj=list(arguments))
    except RobustfrontError as error:
        _print_error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        _print_wrong_arguments(error)
        return WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else DONE


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def _print_wrong_arguments(error: typer.TyperException) -> None:
    """Prints what Typer finds wrong with the arguments; if there are none, the help."""
    context = getattr(error, "ctx", None)
    if context is not None and not getattr(error, "message", ""):
        print(context.get_help())
        return
    message = getattr(error, "format_message", error.__str__)().rstrip(".").replace("Value error, ", "")
    _print_error(message + (f"; see `{context.command_path} --help`" if context is not None else ""))


def _print_error(message: str) -> None:
    if message:
        _console(stderr=True).print(Text.assemble(("robustfront:", "red"), f" {message}"), soft_wrap=True)


def _print_end(console: Console, run: Run, outcome: Outcome, quiet: bool) -> None:
    from search.results.tables import print_summary
    from search.runs.folder import relative

    if quiet:
        console.print(str(relative(run.folder)), soft_wrap=True)
    else:
        print_summary(console, run, outcome.results, outcome.seconds)
