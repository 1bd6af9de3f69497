"""``robustfront import``: make a run from someone else's study, and write its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.console import Console
from typer import Argument, Option

from search.cli.options import RunsDir
from search.config import Source
from search.errors import UserError
from search.runs.layout import RUNS_DIR
from trainables.metrics import Direction

if TYPE_CHECKING:
    from search.results.answer import Answered
    from search.runs.foreign import ForeignStudy, Wanted

app = typer.Typer(
    no_args_is_help=True, help="Make a run from someone else's study, for `pareto`, `surfaces` and `report`."
)

Name = Annotated[str | None, Option(help="Name of the run. Default: that of the study or experiment.")]
Clean = Annotated[str | None, Option(metavar="METRIC", help="The metric that is clean accuracy.")]
Robust = Annotated[str | None, Option(metavar="METRIC", help="The metric that is robust accuracy.")]
Percent = Annotated[bool, Option("--percent", help="Accuracies are in percent: divide them by 100.")]
Effects = Annotated[
    list[str] | None,
    Option("--smallest-effect", metavar="NAME=VALUE", help="Smallest difference of interest in an objective."),
]


@app.command()
def optuna(
    url: Annotated[str, Argument(metavar="URL", help="Optuna's storage, e.g. sqlite:///study.db, or a journal file.")],
    study: Annotated[str, Argument(metavar="STUDY", help="Name of a study with two objectives.")],
    name: Name = None,
    clean: Clean = None,
    robust: Robust = None,
    percent: Percent = False,
    effects: Effects = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Import an Optuna study, e.g. of Ray Tune's OptunaSearch. Objectives without names are values_0 and values_1."""
    from search.runs.foreign import Wanted
    from search.study import read_study

    wanted = Wanted(clean, robust, percent=percent, smallest_effect=_effects(effects or []))
    _import(read_study(url, study), name, wanted, runs_dir)


@app.command()
def mlflow(
    uri: Annotated[str, Argument(metavar="URI", help="MLflow's tracking URI, e.g. sqlite:///mlflow.db.")],
    experiment: Annotated[str, Argument(metavar="EXPERIMENT", help="Name of an experiment.")],
    name: Name = None,
    clean: Clean = None,
    robust: Robust = None,
    objective: Annotated[
        list[str] | None,
        Option(metavar="METRIC=maximize|minimize", help="Another metric to take as an objective; repeatable."),
    ] = None,
    percent: Percent = False,
    effects: Effects = None,
    runs_dir: RunsDir = RUNS_DIR,
) -> None:
    """Import an MLflow experiment: each run that is no parent of others is a trial, its last metrics the result."""
    from search.runs.foreign import Wanted
    from search.tracking.foreign import read_experiment

    wanted = Wanted(clean, robust, _directions(objective or []), percent, _effects(effects or []))
    _import(read_experiment(uri, experiment), name, wanted, runs_dir)


def _import(study: ForeignStudy, name: str | None, wanted: Wanted, runs_dir: Path) -> None:
    from search.report.page import report
    from search.results.tables import front_table, print_table
    from search.results.writing import write_results
    from search.runs.folder import ImportedRun, command, relative
    from search.runs.foreign import convert

    converted = convert(study, name or _folder_name(study.source), wanted)
    run = ImportedRun.plan(converted.config, runs_dir)
    run.create(converted.units, converted.source)
    results = write_results(run, converted.units, lambda _: (), None)
    page = report(run)
    console = Console(highlight=False)
    print_table(console, front_table(run, results.settings, results.front))
    for line in [*_answer(results.answered), *converted.notes, *results.notes]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"{'Report':<16}{relative(page)}", soft_wrap=True)
    console.print(f"{'The front':<16}{command('pareto', run.argument)}", soft_wrap=True)


def _answer(answered: Answered | None) -> list[str]:
    """The answer as lines, without a sweep's settings that would add seeds."""
    if answered is None:
        return []
    return [f"Answer: {answered.answer.sentence}."] if answered.answer.this_network_only else answered.lines


def _folder_name(source: Source) -> str:
    """The study's name as that of a folder."""
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in source.study
    )


def _effects(texts: Sequence[str]) -> dict[str, float]:
    effects = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            effects[name] = float(value)
        except ValueError:
            raise UserError(f"--smallest-effect must be NAME=VALUE, got {text}; write for example auc=0.01") from None
    return effects


def _directions(texts: Sequence[str]) -> dict[str, Direction]:
    directions: dict[str, Direction] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or value not in get_args(Direction):
            raise UserError(
                f"--objective must be METRIC=maximize or METRIC=minimize, got {text}; write for example loss=minimize"
            )
        directions[name] = "maximize" if value == "maximize" else "minimize"
    return directions
