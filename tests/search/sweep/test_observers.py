"""What a person sees: plain lines without a terminal, a panel in one, nothing when quiet."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from analysis.records import TrialRecord
from search.results.standing import Standing, reference_of
from search.study import Counts
from search.sweep.observers import Progress
from tests.search.examples import small_config
from trainables.candidate import Candidate

SETTING = Candidate("i-sce", {"s": 1.25, "m": 0.05})
NONE = Counts(complete=0, pruned=0, failed=0, running=0, budget=0)


def record(number: str, clean: float | None = None, robust: float = 0.4, **changes: object) -> TrialRecord:
    """A complete trial, or a running one without ``clean``."""
    values = {
        "number": number,
        "loss": SETTING.loss,
        "parameters": SETTING.parameters,
        "state": "running" if clean is None else "complete",
        "objectives": {} if clean is None else {"clean_accuracy": clean, "robust_accuracy": robust},
    }
    return TrialRecord(**{**values, **changes})  # type: ignore[arg-type]


def shown(*, terminal: bool, quiet: bool = False) -> tuple[Progress, StringIO]:
    output = StringIO()
    console = Console(file=output, force_terminal=terminal, width=120, color_system=None)
    return Progress(small_config(), console, quiet), output


def one_trial(progress: Progress, end: TrialRecord) -> None:
    progress.started(record(end.number))
    progress.epoch_finished(end.number, {"epoch": 1})
    progress.ended(end)


def test_a_line_a_trial_where_there_is_no_terminal() -> None:
    progress, output = shown(terminal=False)
    with progress:
        one_trial(progress, record("0", 0.97, 0.4))
        one_trial(progress, record("1", state="failed", failure="the training loss became nan [epoch 1]"))
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("[1/4] trial 0     s=1.2500 m=0.0500")
    assert "clean  97.0 %  robust  40.0 %" in lines[0]
    assert "hypervolume 0.0000" in lines[0], "no baseline has finished"
    assert lines[1].endswith("failed: the training loss became nan [epoch 1]")


def test_a_panel_in_a_terminal_shows_running_trials_and_the_best() -> None:
    progress, output = shown(terminal=True)
    with progress:
        one_trial(progress, record("0", 0.97, 0.4))
        progress.started(record("B1"))
        progress.stage("drawing the results")
    text = output.getvalue()
    assert "1/4 settings" in text
    assert "baseline B1" in text
    assert "epoch 1/1" in text
    assert "best clean 97.0 % (trial 0)" in text
    assert "drawing the results ..." in text


def test_that_mlflow_lags_behind_is_said_once_and_that_it_has_caught_up() -> None:
    progress, output = shown(terminal=False)
    with progress:
        for reason in (None, "no answer", "timed out", None, None):
            progress.lagging(reason)
    assert output.getvalue() == "MLflow is behind (no answer); the sweep continues\nMLflow has caught up\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_silent(terminal: bool) -> None:
    progress, output = shown(terminal=terminal, quiet=True)
    with progress:
        progress.stage("starting Ray")
        one_trial(progress, record("0", 0.97))
        progress.tick()
    assert output.getvalue() == ""


def test_time_left_is_known_after_the_first_trial_and_none_is_left_at_the_end() -> None:
    progress, _ = shown(terminal=False, quiet=True)
    assert progress.seconds_left() is None
    for number in ("B0", "B1", "0", "1", "2"):
        one_trial(progress, record(number, 0.9))
        left = progress.seconds_left()
        assert left is not None
        assert left >= 0
    one_trial(progress, record("3", 0.9))
    assert progress.seconds_left() == 0


def test_standing_counts_and_finds_the_best_of_the_search_alone() -> None:
    records = [
        record("B0", 0.999, 0.9),
        record("B1", 0.94, 0.35),
        record("0", 0.95, 0.5),
        record("1", 0.98, 0.3),
        record("2", state="failed", failure="nan"),
        record("3"),
    ]
    standing = Standing.of(records, small_config(), lambda: reference_of(records, small_config()))
    assert (standing.finished, standing.failed, standing.baselines) == (2, 1, 2)
    assert {name: best.number for name, best in standing.best.items()} == {
        "clean_accuracy": "1",
        "robust_accuracy": "0",
    }
    assert [setting.number for setting in standing.front] == ["1", "0"]
    standing.add(record("4", 0.99, 0.5))
    assert [setting.number for setting in standing.front] == ["4"]
    standing = Standing.of(records, small_config(), lambda: reference_of(records, small_config()))
    # Measured from (0.92, 0.25) in units of (0.02, 0.1).
    assert standing.hypervolume == pytest.approx(1.5 * 2.5 + 1.5 * 0.5)


def test_costs_have_their_units_and_what_misses_a_constraint_is_counted_and_never_best() -> None:
    config = small_config(
        objectives={"clean_accuracy": "maximize", "train_seconds": "minimize"},
        constraints={"clean_accuracy": ">= 0.9"},
    )

    def trial(number: str, clean: float, seconds: float) -> TrialRecord:
        objectives = {"clean_accuracy": clean, "train_seconds": seconds}
        return record(number, clean, objectives=objectives, constraints={"clean_accuracy >= 0.9": 0.9 - clean})

    output = StringIO()
    progress = Progress(config, Console(file=output, force_terminal=True, width=140, color_system=None), quiet=False)
    ends = [trial("B0", 0.9, 10.0), trial("0", 0.8, 4.0), trial("B1", 0.9, 8.0), trial("1", 0.95, 7.0)]
    with progress:
        progress.begin([], lambda: NONE, lambda: reference_of(ends, config))
        for end in ends:
            one_trial(progress, end)
    standing = progress.standing
    assert {name: best.number for name, best in standing.best.items()} == dict.fromkeys(config.objectives, "1")
    assert (standing.finished, standing.infeasible) == (2, 1)
    assert standing.reference is not None
    assert standing.reference.point == pytest.approx({"clean_accuracy": 0.88, "train_seconds": 20.0})
    assert standing.hypervolume == pytest.approx(3.5 * 1.3)
    assert "best train seconds 7.0 s (trial 1)" in output.getvalue()
    assert "1 miss a constraint" in output.getvalue()


CONFIRMED: dict[str, Any] = {
    "data": {"train_size": 300, "validation_size": 60, "confirmation_size": 20},
    "search": {"trials": 1, "confirmation_seeds": 3},
}


def test_a_confirmation_has_a_count_of_its_own_and_time_of_its_own() -> None:
    config = small_config(**CONFIRMED)
    output = StringIO()
    progress = Progress(config, Console(file=output, width=160, color_system=None), quiet=False)
    counts = NONE
    lucky, unlucky = {"clean_accuracy": 0.9, "robust_accuracy": 0.4}, {"clean_accuracy": 0.6, "robust_accuracy": 0.1}
    reference = reference_of([record("B0", 0.6, 0.1), record("B1", 0.6, 0.1)], config)
    with progress:
        progress.begin([], lambda: counts, lambda: reference)
        for number in ("B0", "B1"):
            one_trial(progress, record(number, 0.6, 0.1))
        progress.started(record("0"))
        counts = replace(counts, budget=3)  # the search ends with this trial
        progress.ended(record("0", 0.9, replicates=(lucky,)))
        mean = sum(progress._durations) / 3
        assert progress.seconds_left() == pytest.approx(3 * mean)
        further = {"extends": "0", "role": "confirmation"}
        progress.started(record("R0", **further))
        counts = replace(counts, complete=1)
        progress.ended(record("R0", 0.6, 0.1, **further, replicates=(unlucky, unlucky)))
    lines = output.getvalue().splitlines()
    assert lines[2].startswith("[1/1] trial 0     s=1.2500")
    assert lines[3].startswith("[confirmation 1/3] R0 of 0     s=1.2500")
    assert "clean  60.0 %  robust  10.0 %" in lines[3], "its own numbers"
    assert "hypervolume 64.0000" in lines[3], "the search's: 0.9 and 0.4, from (0.58, 0) in units of (0.02, 0.1)"


def test_a_panel_says_which_best_rests_on_more_seeds() -> None:
    config = small_config(**CONFIRMED)
    output = StringIO()
    progress = Progress(config, Console(file=output, force_terminal=True, width=160, color_system=None), quiet=False)
    values = ({"clean_accuracy": 0.9, "robust_accuracy": 0.4},)
    records = [record("0", 0.9, replicates=values), record("R0", 0.9, extends="0", replicates=values)]
    with progress:
        progress.begin(records, lambda: replace(NONE, complete=1, running=1, budget=4), lambda: None)
        progress.started(record("R1", extends="B0"))
        progress.stage("x")
    text = output.getvalue()
    assert "1/4 confirmations" in text
    assert "R1 of B0" in text
    assert "best clean 90.0 % (trial 0, 2 seeds)" in text
