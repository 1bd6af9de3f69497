"""Commands that show or write a run's results: tables, pictures, networks, the report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from typer import Argument, Option

from search.cli.options import RunName, RunsDir, typed
from search.errors import UserError
from search.runs.layout import RUNS_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from analysis.records import TrialRecord
    from analysis.selection import Selection
    from search.results.writing import RunData


def pareto(
    context: typer.Context,
    run: RunName,
    format_: Annotated[
        Literal["table", "json", "yaml", "csv", "latex"], Option("--format", help="How to print it.")
    ] = "table",
    min_clean: Annotated[
        float | None, Option(min=0, max=1, help="Only settings with at least this clean accuracy, e.g. 0.97.")
    ] = None,
    probability: Annotated[
        float | None, Option(min=0, max=1, help="Only settings that nothing beats with at least this probability.")
    ] = None,
    knee: Annotated[
        bool, Option("--knee", help="Only the setting farthest from the line through the front's ends.")
    ] = False,
    best: Annotated[
        str | None,
        Option("--max", metavar="OBJECTIVE", help="Only the best setting in this objective, or the --top best."),
    ] = None,
    top: Annotated[
        int | None, Option(min=1, help="Only this many settings: the most probable, or the best by --max.")
    ] = None,
    test: Annotated[
        bool, Option("--test", help="First evaluate the settings and the baselines on the test split.")
    ] = False,
    output: Annotated[Path | None, Option(help="Write to this file instead of the terminal.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print or export the Pareto-optimal settings. Run exported commands in the run's folder."""
    from analysis.export import export_front
    from analysis.selection import Selection
    from search.evaluation.test_split import evaluate_on_test, read_test_results
    from search.results.answer import read_answer
    from search.results.tables import front_table
    from search.results.writing import RunData, trainable
    from search.runs.folder import Run, open_run
    from search.study import read_records

    if test:
        evaluate_on_test(Run.open(run, runs_dir), typed(context), Console(stderr=True, highlight=False))
    opened = open_run(run, runs_dir)
    data, answer = RunData(opened, read_records(opened)), read_answer(opened)
    front = _selected(
        data, answer, Selection(min_clean=min_clean, probability=probability, knee=knee, best=best, top=top)
    )
    dropped = {record.number for record in data.front} - {record.number for record in front}
    settings = [record for record in data.settings if record.number not in dropped]
    tested = read_test_results(opened, settings) if isinstance(opened, Run) else None
    if format_ == "table":
        _write(front_table(opened, settings, front, tested), output)
    else:
        _write(export_front(front, opened.config.objectives, format_, trainable(opened), tested, answer), output)


def _selected(data: RunData, answer: Mapping[str, Any] | None, selection: Selection) -> list[TrialRecord]:
    """The settings of the front that meet the user's selection."""
    from analysis.selection import select

    entries = answer["entries"] if answer is not None else []
    probabilities = {entry["number"]: entry["probability"] for entry in entries}
    try:
        return select(data.front, data.run.config.objectives, probabilities, selection)
    except ValueError as error:
        raise UserError(str(error)) from None


def surfaces(run: RunName, runs_dir: RunsDir = RUNS_DIR) -> None:
    """Draw accuracy over the loss's parameters, as in the paper's Figure 4: clean, worst case and each attack."""
    from search.results.writing import RunData, draw
    from search.runs.folder import open_run, relative
    from search.study import read_records

    opened = open_run(run, runs_dir)
    drawn = draw("surfaces", RunData(opened, read_records(opened)))
    if not drawn.files:
        raise UserError(drawn.note)
    opened.share(*drawn.files)
    print(*map(relative, drawn.files), *([drawn.note] if drawn.note else []), sep="\n")


def report(run: RunName, runs_dir: RunsDir = RUNS_DIR) -> None:
    """Write the report: what to use, why, and how certain that is, as one HTML page."""
    from search.report.page import report as write
    from search.runs.folder import open_run, relative

    print(relative(write(open_run(run, runs_dir))))


def _write(content: str | Table, path: Path | None) -> None:
    """Writes text or a table (without colours) to a file, or prints it."""
    if path is None:
        _print(content, sys.stdout)
        return
    try:
        with path.open("w", encoding="utf-8") as file:
            _print(content, file)
    except OSError as error:
        raise UserError(f"--output must be writable, got {path} ({error.strerror}); choose another") from None


def _print(content: str | Table, file: IO[str]) -> None:
    from search.results.tables import print_table

    if isinstance(content, str):
        print(content, end="", file=file)
    else:
        print_table(Console(file=file), content)


def export(
    run: RunName,
    number: Annotated[
        str | None, Argument(metavar="[NUMBER]", help="Number of a setting. Default: the recommended.")
    ] = None,
    to: Annotated[Path, Option("--to", metavar="FOLDER", help="Folder for the files.")] = ...,  # type: ignore[assignment]
    seed: Annotated[int | None, Option(help="Seed of the network. Default: that with the median accuracy.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Export a network: weights, torch.export program, model card, RobustBench record; and log it in MLflow."""
    from search.evaluation.export import export as export_network
    from search.runs.folder import Run

    network, lack = export_network(Run.open(run, runs_dir), number, seed, to)
    print(f"{to}: trial {network.setting.number}, seed {network.seed} (unit {network.unit.number})")
    if lack is not None:
        print(lack)


def runs(as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False, runs_dir: RunsDir = RUNS_DIR) -> None:
    """List the runs, newest first: state, progress, the best value of each objective, date."""
    from search.cli.status import list_runs, runs_table

    rows = list_runs(runs_dir)
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        _print(runs_table(rows), sys.stdout)
    else:
        print(f"no runs under {runs_dir}; start one with `robustfront sweep configs/quickstart.yaml`")


COMMANDS = (pareto, surfaces, report, export, runs)
