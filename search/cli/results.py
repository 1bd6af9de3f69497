"""Commands that show a run's results or write them: tables, pictures, the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from typer import Option

from search.cli.options import RunName, RunsDir
from search.errors import UserError
from search.runs.folder import Run, relative
from search.runs.layout import RUNS_DIR, SWEEP_FILE

if TYPE_CHECKING:
    from rich.table import Table


def pareto(
    context: typer.Context,
    run: RunName,
    format_: Annotated[Literal["table", "json", "yaml", "csv"], Option("--format", help="How to print it.")] = "table",
    test: Annotated[bool, Option("--test", help="First evaluate them and the baselines on the test split.")] = False,
    output: Annotated[Path | None, Option(help="Write to this file instead of the terminal.")] = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Print or export the Pareto-optimal settings. Exported commands are to be run in the run's folder."""
    from analysis.export import export_front
    from search.evaluation.test_split import evaluate_on_test, read_test_results
    from search.results.answer import read_answer
    from search.results.tables import front_table
    from search.results.writing import RunData
    from search.study import read_records

    opened = Run.open(run, runs_dir)
    if test:
        evaluate_on_test(opened, context.obj, Console(stderr=True, highlight=False))
    data, answer = RunData(opened, read_records(opened)), read_answer(opened)
    settings, front = data.settings, data.front
    tested = read_test_results(opened, settings)
    if format_ == "table":
        _write(front_table(opened, settings, front, tested), output)
    else:
        _write(export_front(front, opened.config.objectives, format_, SWEEP_FILE, tested, answer), output)


def surfaces(run: RunName, runs_dir: RunsDir = RUNS_DIR) -> None:
    """Draw accuracy over the loss's parameters, as in the paper's Figure 4: clean, worst case and each attack."""
    from search.results.writing import RunData, draw
    from search.study import read_records

    opened = Run.open(run, runs_dir)
    drawn = draw("surfaces", RunData(opened, read_records(opened)))
    if not drawn.files:
        raise UserError(drawn.note)
    opened.share(*drawn.files)
    print(*map(relative, drawn.files), *([drawn.note] if drawn.note else []), sep="\n")


def report(run: RunName, runs_dir: RunsDir = RUNS_DIR) -> None:
    """Write the report: what to use, why, and how certain that is, as one HTML page."""
    from search.report.page import report as write

    print(relative(write(Run.open(run, runs_dir))))


def _write(content: str | Table, path: Path | None) -> None:
    """Writes text, or a table without colours, into a file, or prints it."""
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


COMMANDS = (pareto, surfaces, report)
