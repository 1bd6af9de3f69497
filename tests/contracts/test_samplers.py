"""The contract of every sampler, tested through the real ledger."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search.study.ledger
from search.config import SweepConfig
from search.config.rules import SAMPLERS
from search.study import Ledger, Unit, open_storage
from tests.search.examples import result, small_config, unit_result
from trainables.candidate import Candidate as Point
from trainables.settings.space import Choices, Domain, Range, Value

TRIALS = 12  # TPE and GP draw their first ten at random, NSGA-II and NSGA-III their first eight, NEHVI its first six
READ_CONSTRAINTS = ("tpe", "nsga2", "nsga3", "gp", "nehvi")
ROOT = Path(__file__).parents[2]

Candidate = dict[str, Any]
Plain = Callable[[str], list[Candidate]]

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def config_of(sampler: str, seed: int = 0, **sections: Any) -> SweepConfig:
    search: dict[str, Any] = {"sampler": sampler, "seed": seed, "trials": TRIALS}
    if sampler == "grid":
        search |= {"trials": None, "grid": {"s": 4, "m": 3}}
    return small_config(search=search, **sections)


def outcome(parameters: Mapping[str, float]) -> dict[str, Any]:
    """A smooth trade-off over s; the best m is at its open end."""
    s, m = parameters.get("s", 1.0), parameters.get("m", 0.0)
    clean, robust = 0.9 + 0.08 * (s - 1) - 0.2 * m, 0.5 - 0.2 * (s - 1) ** 2 - m
    return unit_result({"clean_accuracy": clean, "robust_accuracy": robust, "train_seconds": 5.0 + s})


def driver(folder: Path, config: SweepConfig) -> Ledger:
    """The ledger of a new driver, which starts a sweep or resumes the one in the folder."""
    new = not (folder / "study.db").exists()
    folder.mkdir(exist_ok=True)
    ledger = Ledger(open_storage(f"sqlite:///{folder / 'study.db'}"), config, "new" if new else "resume")
    ledger.adopt()
    return ledger


def finish(ledger: Ledger, unit: Unit) -> None:
    ledger.finish(unit.number, outcome(unit.candidate.parameters))


def suggestions(
    ledger: Ledger, *, at_once: int = 1, end: Callable[[Ledger, Unit], None] = finish, most: int = 100
) -> list[Candidate]:
    """The search's suggestions, in order. ``at_once`` trials run side by side; the first to start ends first."""
    running: list[Unit] = []
    suggested = []
    begun = {record.number for record in ledger.records()}
    while True:
        while len(running) < at_once and len(suggested) < most and (unit := ledger.ask()) is not None:
            running.append(unit)
            if unit.number.isdecimal() and unit.number not in begun:
                suggested.append(dict(unit.candidate.parameters))
        if not running:
            return suggested
        end(ledger, running.pop(0))


def all_new(sampler: str, settings: list[Candidate], units: int) -> bool:
    """Whether all differ, and are as many as the search had units; nehvi also trains further seeds of some."""
    different = len({tuple(setting.items()) for setting in settings}) == len(settings)
    return different and (units / 3 < len(settings) <= units if sampler == "nehvi" else len(settings) == units)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """The suggestions of an undisturbed sampler, by its name."""
    known: dict[str, list[Candidate]] = {}

    def suggest(sampler: str) -> list[Candidate]:
        if sampler not in known:
            known[sampler] = suggestions(driver(tmp_path_factory.mktemp(sampler), config_of(sampler)))
        return known[sampler]

    return suggest


@each_sampler
def test_every_suggestion_is_new_in_the_space_and_off_its_open_end_even_if_the_best_lies_there(
    sampler: str, plain: Plain
) -> None:
    suggested = plain(sampler)
    assert all_new(sampler, suggested, TRIALS)
    for setting in suggested:
        assert 1.0 <= setting["s"] <= 2.0
        assert np.float32(setting["m"]) > 0.0  # losses compute in single precision
        assert setting["m"] <= 0.1


@each_sampler
def test_another_seed_suggests_something_else(sampler: str, plain: Plain, tmp_path: Path) -> None:
    other = suggestions(driver(tmp_path, config_of(sampler, seed=1)), most=4)
    same = [a == b for a, b in zip(plain(sampler), other, strict=False)]
    assert same == [True, *[sampler == "grid"] * 3]  # the authors' own setting comes first in any case


def test_the_same_seed_suggests_the_same_in_another_process(plain: Plain, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from tests.contracts.test_samplers import *\n"
        "suggested = {name: suggestions(driver(Path(sys.argv[1]) / name, config_of(name))) for name in sys.argv[2:]}\n"
        "print(json.dumps(suggested))"
    )
    samplers = ("tpe", "nsga3", "gp", "qmc", "nehvi")
    command = [sys.executable, "-c", code, str(tmp_path), *samplers]
    process = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=240)
    assert json.loads(process.stdout) == {sampler: plain(sampler) for sampler in samplers}


@each_sampler
def test_drivers_that_die_and_are_replaced_suggest_the_same_as_a_single_one(
    sampler: str, plain: Plain, tmp_path: Path
) -> None:
    suggested = []
    for most in (2, 8, 100):  # each dies with a running trial, which the next one finishes first

        def end(ledger: Ledger, unit: Unit, last: int = len(suggested) + most - 1) -> None:
            if unit.number != str(last):
                finish(ledger, unit)

        suggested += suggestions(driver(tmp_path, config_of(sampler)), end=end, most=most)
    assert suggested == plain(sampler)


@each_sampler
def test_no_setting_is_tried_twice_however_many_run_at_once(sampler: str, tmp_path: Path) -> None:
    suggested = suggestions(driver(tmp_path, config_of(sampler)), at_once=4)
    assert all_new(sampler, suggested, TRIALS)


@each_sampler
def test_failed_pruned_and_void_trials_among_the_history(sampler: str, tmp_path: Path) -> None:
    def end(ledger: Ledger, unit: Unit) -> None:
        if unit.number in ("3", "8", "11"):
            ledger.fail(unit.number, "the training loss became nan")
        elif unit.number in ("1", "5", "9", "10"):
            ledger.prune(unit.number)
        else:
            finish(ledger, unit)

    config = config_of(sampler)
    ledger = driver(tmp_path, config)
    before = suggestions(ledger, end=end, most=6)
    ledger._search.study.ask()  # its driver dies before the row has a suggestion
    ledger = driver(tmp_path, config)
    suggested = before + suggestions(ledger, end=end)
    counts = ledger.counts()
    assert (counts.pruned, counts.failed, counts.finished, counts.running) == (4, 3, TRIALS, 0)
    assert ledger.complete
    if sampler == "grid":  # which tries its points again when they fail
        assert len(suggested) == TRIALS + 3
    else:
        assert all_new(sampler, suggested, TRIALS + 3)


@each_sampler
def test_three_objectives_and_a_constraint(sampler: str, plain: Plain, tmp_path: Path) -> None:
    objectives = {"clean_accuracy": "maximize", "robust_accuracy": "maximize", "train_seconds": "minimize"}
    limits = {"clean_accuracy": ">= 0.93"}
    ledger = driver(tmp_path / "bound", config_of(sampler, objectives=objectives, constraints=limits))
    suggested = suggestions(ledger)
    assert all_new(sampler, suggested, TRIALS)
    assert suggested[:6] == plain(sampler)[:6]
    if sampler in READ_CONSTRAINTS:
        free = suggestions(driver(tmp_path / "free", config_of(sampler, objectives=objectives)))
        assert suggested[:6] == free[:6]
        assert suggested != free
    for trial, setting in zip(ledger._search.study.trials, suggested, strict=True):
        assert len(trial.values) == 3
        clean = outcome(setting)["scores"]["clean_accuracy"]["value"]
        assert trial.constraints == {"clean_accuracy >= 0.93": pytest.approx(0.93 - clean)}


# Parameters of every kind; no component has all of them.
MIXED: dict[str, Domain] = {
    "width": Range(low=1.0, high=2.0),
    "rate": Range(low=1e-4, high=1e-1, log=True),
    "depth": Range(low=1, high=64, integer=True, log=True),
    "pool": Choices(choices=("max", "mean", "none")),
}
FINITE: dict[str, Domain] = {
    "depth": Range(low=1, high=3, integer=True),
    "pool": Choices(choices=("max", "mean", 1, 2)),
}
ONE: dict[str, Domain] = {"rate": Range(low=1e-4, high=1e-1, log=True)}
SINGLE: dict[str, Domain] = {"width": Range(low=1.5, high=1.5), "rate": Range(low=0.0, high=1.0, low_exclusive=True)}
FIXED: dict[str, Value] = {"width": 1.25, "rate": 0.01, "depth": 3, "pool": "mean"}


class AnySpace(SweepConfig):
    """A sweep over a space of any kind, without baselines."""

    space_of_any_kind: Any = None
    fixed: Any = ()

    @property
    def domains(self) -> dict[str, Domain]:
        return dict(self.space_of_any_kind)

    @property
    def fixed_settings(self) -> list[dict[str, Any]]:
        if self.search.sampler != "grid":
            return list(self.fixed)
        points = 2 if len(self.domains) > 2 else TRIALS
        values = [dict.fromkeys(domain.grid(points)) for domain in self.domains.values()]
        return [dict(zip(self.domains, point, strict=True)) for point in itertools.product(*values)]

    @property
    def baselines(self) -> tuple[Any, ...]:
        return ()

    def candidate(self, parameters: Mapping[str, Value]) -> Point:
        return Point(self.loss.name, dict(parameters))


@pytest.fixture
def any_space() -> Callable[..., AnySpace]:
    def make(sampler: str, space: dict[str, Domain], *, trials: int = TRIALS, fixed: Any = ()) -> AnySpace:
        config = config_of(sampler).model_copy(update={"search": config_of(sampler).search})
        fields = {name: getattr(config, name) for name in SweepConfig.model_fields}
        budget = None if sampler == "grid" else trials
        fields["search"] = config.search.model_copy(update={"trials": budget})
        return AnySpace.model_construct(**fields, space_of_any_kind=space, fixed=fixed)

    return make


def end_anywhere(ledger: Ledger, unit: Unit) -> None:
    """A trade-off over whatever parameters a setting has."""
    numbers = [float(value) for value in unit.candidate.parameters.values() if isinstance(value, int | float)]
    shift = sum(map(math.sin, numbers)) / max(len(numbers), 1)
    ledger.finish(unit.number, result(round(0.9 + 0.05 * shift, 6), round(0.5 - 0.2 * shift, 6)))


@each_sampler
@pytest.mark.parametrize("space", [MIXED, ONE, SINGLE], ids=["mixed", "one", "single"])
def test_parameters_of_every_kind(
    sampler: str, space: dict[str, Domain], any_space: Callable[..., AnySpace], tmp_path: Path
) -> None:
    fixed = [{name: FIXED[name] for name in space if name in FIXED}] if space is MIXED else []
    config = any_space(sampler, space, fixed=fixed)
    whole = suggestions(driver(tmp_path / "whole", config), end=end_anywhere)
    assert all_new(sampler, whole, config.budget)
    for setting in whole:
        assert setting.keys() == space.keys()
        for name, value in setting.items():
            assert space[name].contains(value), (name, value)
    if fixed and sampler != "grid":
        assert whole[0] == fixed[0]

    suggested: list[Candidate] = []
    # Three drivers die within an ask, one of them in the first of a new generation.
    for most in (3, 2, 1, 1000) if sampler == "nehvi" else (3, 5, 3, 1000):
        ledger = driver(tmp_path / "pieces", config)
        suggested += suggestions(ledger, end=end_anywhere, most=most)
        if most < 1000:
            begin_and_die(ledger)
    assert suggested == whole


class Died(Exception):
    """Stands for the death of the driver."""


def begin_and_die(ledger: Ledger) -> None:
    """Leaves a row with only its first suggestion."""
    suggest, suggested = search.study.ledger.suggest, list[str]()

    def suggest_then_die(trial: Any, name: str, distribution: Any) -> Any:
        if suggested:
            raise Died
        suggested.append(name)
        return suggest(trial, name, distribution)

    def die(*_: object) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.study.ledger.suggest", suggest_then_die)
        patch.setattr(ledger._storage, "set_trial_user_attr", die)
        with pytest.raises(Died):
            ledger.ask()


@each_sampler
def test_a_finite_space_is_tried_to_its_last_setting(
    sampler: str, any_space: Callable[..., AnySpace], tmp_path: Path
) -> None:
    config = any_space(sampler, FINITE, trials=12)
    suggested = suggestions(driver(tmp_path, config), at_once=3, end=end_anywhere)
    assert all_new(sampler, suggested, 12)
