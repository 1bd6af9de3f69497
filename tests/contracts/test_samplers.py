"""What every sampler must keep to, asked by the real ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search.config import SweepConfig
from search.ledger import Ledger, Task, open_storage
from search.samplers import SAMPLERS, population_size
from tests.search.examples import result, small_config

TRIALS = 13  # TPE and GP draw their first ten at random, NSGA-II its first eight
ROOT = Path(__file__).parents[2]

READ_CONSTRAINTS = {"tpe", "nsga2", "nsga3", "gp"}
DRAW = {"qmc", "random", "grid"}  # whatever came of the trials before

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def config_of(sampler: str, seed: int = 0, **sections: Any) -> SweepConfig:
    search: dict[str, Any] = {"sampler": sampler, "seed": seed, "trials": TRIALS}
    if sampler == "grid":
        search |= {"trials": None, "grid": {"s": 4, "m": 3}, "enqueue": [{"s": 1.7, "m": 0.01}]}
    return small_config(search=search, **sections)


def outcome(parameters: Mapping[str, float]) -> dict[str, Any]:
    """A smooth trade-off: clean accuracy rises with s, robust accuracy falls with it, and both like a small m."""
    s, m = parameters.get("s", 1.0), parameters.get("m", 0.0)
    found = result(0.9 + 0.08 * (s - 1) - 0.2 * m, 0.5 - 0.2 * (s - 1) ** 2 - m)
    found["objectives"]["train_seconds"] = 5.0 + s
    return found


def ledger_in(folder: Path, config: SweepConfig) -> Ledger:
    """A new driver: a new sweep, or the one that is there already."""
    folder.mkdir(exist_ok=True)
    file = folder / "study.db"
    mode = "resume" if file.exists() else "new"
    ledger = Ledger(open_storage(f"sqlite:///{file}"), config, mode)  # type: ignore[arg-type]
    ledger.adopt()
    return ledger


def finish(ledger: Ledger, task: Task) -> None:
    ledger.finish(task.number, outcome(task.setting.parameters))


def suggestions(
    ledger: Ledger, at_once: int = 1, end: Callable[[Ledger, Task], None] = finish, most: int = 1000
) -> list[dict[str, float]]:
    """What the search suggests, in order; ``at_once`` trials run side by side, the first to begin ends first."""
    running: list[Task] = []
    found = []
    while len(found) < most:
        while len(running) < at_once and (task := ledger.ask()) is not None:
            running.append(task)
            if task.number.isdecimal():
                found.append(dict(task.setting.parameters))
        if not running:
            break
        end(ledger, running.pop(0))
    return found


def distinct(settings: list[dict[str, float]]) -> int:
    return len({tuple(setting.items()) for setting in settings})


@each_sampler
def test_the_same_seed_gives_the_same_suggestions_and_another_seed_others(sampler: str, tmp_path: Path) -> None:
    first, same, other = (
        suggestions(ledger_in(tmp_path / name, config_of(sampler, seed)))
        for name, seed in (("first", 0), ("same", 0), ("other", 1))
    )
    assert len(first) == TRIALS + (sampler == "grid")
    assert same == first
    if sampler != "grid":
        assert [a == b for a, b in zip(first, other, strict=True)] == [True] + [False] * (TRIALS - 1)


def all_suggestions(folder: Path) -> dict[str, list[dict[str, float]]]:
    return {sampler: suggestions(ledger_in(folder / sampler, config_of(sampler))) for sampler in SAMPLERS}


def test_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    code = (
        "import json; from pathlib import Path; from tests.contracts.test_samplers import all_suggestions; "
        f"print(json.dumps(all_suggestions(Path({str(tmp_path / 'there')!r}))))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=240
    )
    assert json.loads(there.stdout) == all_suggestions(tmp_path / "here")


@each_sampler
def test_every_suggestion_is_in_the_space_and_off_its_open_end_even_where_the_best_lies_there(
    sampler: str, tmp_path: Path
) -> None:
    for setting in suggestions(ledger_in(tmp_path, config_of(sampler))):
        assert 1.0 <= setting["s"] <= 2.0
        assert 0.0 < setting["m"] <= 0.1


@each_sampler
def test_a_narrower_space_is_kept_to(sampler: str, tmp_path: Path) -> None:
    config = config_of(sampler, space={"s": {"low": 1.5, "high": 1.5}, "m": {"low": 0.02, "high": 0.05}})
    if sampler == "grid":
        config = config_of("random", space={"s": {"low": 1.5, "high": 1.5}, "m": {"low": 0.02, "high": 0.05}})
    found = suggestions(ledger_in(tmp_path, config))
    assert distinct(found) == TRIALS
    for setting in found:
        assert setting["s"] == 1.5
        assert 0.02 <= setting["m"] <= 0.05


@each_sampler
def test_no_setting_is_tried_twice_however_many_run_at_once(sampler: str, tmp_path: Path) -> None:
    found = suggestions(ledger_in(tmp_path, config_of(sampler)), at_once=4)
    assert distinct(found) == len(found) == TRIALS + (sampler == "grid")


@each_sampler
def test_a_search_with_a_new_driver_after_every_trial_suggests_what_one_left_alone_does(
    sampler: str, tmp_path: Path
) -> None:
    alone = suggestions(ledger_in(tmp_path / "alone", config_of(sampler)))
    pieces: list[dict[str, float]] = []
    while len(pieces) < len(alone):
        # Cut off after the ask: the next driver finds the trial running, and finishes it.
        pieces += suggestions(ledger_in(tmp_path / "pieces", config_of(sampler)), end=lambda ledger, task: None, most=1)
        orphan = ledger_in(tmp_path / "pieces", config_of(sampler))
        while (task := orphan.ask()) is not None and task.orphan:
            finish(orphan, task)
    assert pieces == alone
