"""The confirmation of a search's choice: which seeds are trained, when, and that a crash changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest

from search.config import SweepConfig
from search.results.answer import answer_of
from search.study import EarlierTrial, Ledger, Unit, open_storage
from search.study.due import FIRST_CONFIRMATION_SEED
from search.study.warm_start import new_row
from tests.search.examples import result, small_config
from tests.search.study.test_ledger import Died, new_ledger, reopened, url
from trainables.candidate import Candidate

Values = tuple[float, float]
SEEDS = 2
BEFORE = 2 * 2 + 9 * 2  # units of ``config`` until the confirmation begins
FIRST = FIRST_CONFIRMATION_SEED


def config(**sections: Any) -> SweepConfig:
    """Two baselines and a grid of nine settings, two seeds of each; what is chosen gets two new ones."""
    search = {"sampler": "grid", "grid": {"s": 3, "m": 3}, "trials": None, "confirmation_seeds": SEEDS}
    defaults: dict[str, Any] = {"data": {"confirmation_size": 20}, "train": {"replicates": 2}}
    merged = {name: {**value, **sections.pop(name, {})} for name, value in defaults.items()}
    return small_config(**merged, **{**sections, "search": {**search, **sections.get("search", {})}})


def luck(setting: Candidate, seed: int) -> Values:
    """The result of a setting with a seed; the seed matters as much as the setting."""
    random = Random(f"{sorted(setting.parameters.items())} {seed}")
    s = float(setting.parameters.get("s", 1.0))
    return 0.90 + 0.02 * s + random.gauss(0, 0.01), 0.6 - 0.1 * s + random.gauss(0, 0.05)


def finish(ledger: Ledger, unit: Unit, give: Callable[[Candidate, int], Values] = luck) -> None:
    clean, robust = give(unit.candidate, unit.seed)
    ledger.finish(unit.number, result(clean, robust, seed=unit.seed))


def drive(ledger: Ledger, concurrency: int = 1, give: Callable[[Candidate, int], Values] = luck) -> list[Unit]:
    """Runs a sweep to its end; which of the running units ends next is random."""
    random, units, running = Random(0), list[Unit](), list[Unit]()
    while True:
        while len(running) < concurrency and (unit := ledger.ask()) is not None:
            units.append(unit)
            running.append(unit)
        if not running:
            return units
        finish(ledger, running.pop(random.randrange(len(running))), give)


def confirmed(units: list[Unit], ledger: Ledger) -> dict[str, list[int]]:
    """The seeds that confirm each setting, in the order in which they were begun."""
    seeds: dict[str, list[int]] = {}
    for unit in units:
        if unit.role == "confirmation":
            seeds.setdefault(ledger.record(unit.number).extends or "", []).append(unit.seed)
    return seeds


def choice(ledger: Ledger, settings: SweepConfig) -> set[str]:
    """The choice by the search units alone."""
    search = [record for record in ledger.records() if record.role == "search"]
    answered = answer_of(settings, None, search)
    assert answered is not None
    return {*answered.choice.settings, *answered.choice.baselines}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_choice_of_the_search_gets_seeds_of_its_own_and_they_do_not_change_it(
    concurrency: int, tmp_path: Path
) -> None:
    def reversed_luck(setting: Candidate, seed: int) -> Values:
        """Confirmation says the opposite of the search."""
        clean, robust = luck(setting, seed)
        return (clean, robust) if seed < FIRST else (1 - clean, 1 - robust)

    ledger = new_ledger(tmp_path, config())
    units = drive(ledger, concurrency, reversed_luck)
    assert ledger.complete
    assert {unit.role for unit in units[:BEFORE]} == {"search"}
    assert {unit.role for unit in units[BEFORE:]} == {"confirmation"}
    assert confirmed(units, ledger) == {number: [FIRST, FIRST + 1] for number in choice(ledger, config())}
    assert ledger.extensions().complete == ledger.extensions().budget == len(units) - BEFORE
    assert (ledger.counts().complete, ledger.counts().budget) == (18, 18)


def test_the_most_important_are_confirmed_if_not_all_are(tmp_path: Path) -> None:
    settings = config(search={"most_confirmed": 2})
    ledger = new_ledger(tmp_path, settings)
    units = drive(ledger)
    answered = answer_of(settings, None, [record for record in ledger.records() if record.role == "search"])
    assert answered is not None
    chosen = [number for number in confirmed(units, ledger) if not number.startswith("B")]
    assert chosen == list(answered.choice.settings[:2])
    assert chosen[0] == answered.number(answered.answer.recommended.setting)


def test_a_search_without_confirmation_is_complete_when_its_units_are(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config(data={"confirmation_size": 0}, search={"confirmation_seeds": 0}))
    assert len(drive(ledger)) == BEFORE
    assert ledger.complete


def test_nothing_is_chosen_before_the_last_unit_has_ended(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    for _ in range(BEFORE - 1):
        unit = ledger.ask()
        assert unit is not None
        finish(ledger, unit)
    last = ledger.ask()
    assert last is not None
    assert ledger.ask() is None
    assert ledger.extensions().budget == 0
    finish(ledger, last)
    assert not ledger.complete
    unit = ledger.ask()
    assert unit is not None
    assert (unit.number, unit.seed, unit.role) == (f"R{BEFORE - 11}", FIRST, "confirmation")


def test_new_drivers_continue_running_units_and_begin_the_same_next_ones(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = drive(new_ledger(tmp_path / "whole", config()))
    units, ledger = [], new_ledger(tmp_path, config())
    while (unit := ledger.ask()) is not None:
        units.append(unit)
        if unit.role == "confirmation":  # its driver dies
            ledger = reopened(tmp_path, config())
            assert ledger.ask() == unit
        finish(ledger, unit)
    assert units == whole
    assert ledger.complete


@pytest.mark.parametrize("written", [0, 1])
def test_the_next_driver_reuses_a_row_whose_driver_died_before_naming_its_setting(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = drive(new_ledger(tmp_path / "whole", config()))
    ledger, done = new_ledger(tmp_path, config()), 0
    for _ in range(BEFORE + 1):
        unit = ledger.ask()
        assert unit is not None
        finish(ledger, unit)
    write = ledger._storage.set_trial_user_attr

    def write_then_die(*arguments: Any) -> None:
        nonlocal done
        if done == written:
            raise Died
        done += 1
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ledger._storage, "set_trial_user_attr", write_then_die)
        with pytest.raises(Died):
            ledger.ask()
    again = reopened(tmp_path, config())
    assert [unit.number for unit in drive(again)] == [unit.number for unit in whole[BEFORE + 1 :]]
    assert len(optuna.load_study(storage=url(tmp_path), study_name="small-replicates").trials) == len(whole) - 11


def test_a_unit_that_fails_is_replaced_and_counts_as_a_failure(tmp_path: Path) -> None:
    settings = config(resources={"max_failures": 1})
    ledger = new_ledger(tmp_path, settings)
    while (unit := ledger.ask()) is not None and unit.role == "search":
        finish(ledger, unit)
    assert unit is not None
    budget = ledger.extensions().budget
    ledger.fail(unit.number, "its worker process died")
    again = ledger.ask()
    assert again is not None
    assert (again.candidate, again.seed) == (unit.candidate, unit.seed)
    assert (ledger.extensions().budget, ledger.extensions().failed, ledger.failures()) == (budget, 1, 1)
    ledger.fail(again.number, "its worker process died")
    assert ledger.ask() is None
    assert ledger.failures_exhausted
    assert not ledger.complete
    assert drive(reopened(tmp_path, settings))[0].candidate == unit.candidate


def test_more_seeds_can_be_added_later(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    before = confirmed(drive(ledger), ledger)
    more = reopened(tmp_path, config(search={"confirmation_seeds": 4}))
    assert not more.complete
    assert confirmed(drive(more), more) == {number: [FIRST + 2, FIRST + 3] for number in before}
    reader = Ledger(open_storage(url(tmp_path), create=False), config(), "read")
    assert reader.complete


def test_a_choice_that_changes_when_the_search_continues_gets_new_seeds(tmp_path: Path) -> None:
    def best_comes_late(setting: Candidate, seed: int) -> Values:
        clean, robust = luck(setting, seed)
        return clean, robust + (0.4 if setting.parameters.get("s") == 1.5 else 0.0)

    search = {"sampler": "random", "grid": {}, "trials": 6, "enqueue": [{"s": 1.2, "m": 0.01}, {"s": 1.8, "m": 0.02}]}
    first = new_ledger(tmp_path, config(search=search))
    before = confirmed(drive(first, give=best_comes_late), first)
    search |= {"trials": 8, "enqueue": [*search["enqueue"], {"s": 1.5, "m": 0.05}]}
    second = reopened(tmp_path, config(search=search))
    units = drive(second, give=best_comes_late)
    assert [unit.role for unit in units[:2]] == ["search", "search"]
    after = confirmed(units, second)
    assert "3" in after
    assert "3" not in before
    assert {tuple(seeds) for seeds in after.values()} == {(FIRST + SEEDS, FIRST + SEEDS + 1)}, (
        "none has confirmed before"
    )


def test_a_search_that_a_criterion_has_ended_is_confirmed(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config(search={"stop": {"device_hours": 1e-9}}))
    drive(ledger)
    assert ledger.counts().finished < 9
    assert ledger.complete


def test_settings_that_miss_a_constraint_are_not_confirmed(tmp_path: Path) -> None:
    settings = config(constraints={"clean_accuracy": ">= 0.925"})
    ledger = new_ledger(tmp_path, settings)
    units = drive(ledger)
    chosen = {number for number in confirmed(units, ledger) if not number.startswith("B")}
    assert chosen
    assert chosen <= {record.number for record in ledger.records() if record.role == "search"}
    search = [record for record in ledger.records() if record.role == "search"]
    answered = answer_of(settings, None, search)
    assert answered is not None
    assert chosen <= set(answered.choice.settings)


@pytest.mark.parametrize("force", [False, True])
def test_a_trial_that_was_taken_over_is_confirmed_if_it_is_of_the_same_problem(force: bool, tmp_path: Path) -> None:
    search = {"sampler": "random", "grid": {}, "trials": 4, "warm_start": ["first"], "warm_start_force": force}
    ledger = new_ledger(tmp_path, config(search=search))
    setting = {"loss": "i-sce", "parameters": {"s": 1.5, "m": 0.05}}
    origin = {"run": "first", "identity": "id", "number": "7", "checkpoint": None, "outcomes": None}
    attributes = {"candidate": setting, "result": result(0.999, 0.999), "origin": origin}
    distributions = {
        "s": optuna.distributions.FloatDistribution(1.0, 2.0),
        "m": optuna.distributions.FloatDistribution(0.0, 0.1),
    }
    trial = optuna.trial.create_trial(
        values=[0.999, 0.999],
        params=setting["parameters"],
        distributions=distributions,
        user_attrs=attributes,
    )
    ledger.take_over([EarlierTrial(new_row(trial, config(search=search)))])
    drive(ledger)
    assert ledger.complete
    assert ("0" in {record.extends for record in ledger.records()}) is not force


@pytest.mark.parametrize(("seed", "role"), [(FIRST, "search"), (FIRST - 1, "confirmation")])
def test_the_two_roles_share_no_seed(seed: int, role: Any, tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    drive(ledger)
    with pytest.raises(ValueError, match="seed must be below 1000 for the search"):
        ledger.extend("0", seed, role)


def test_a_baseline_that_another_beats_is_not_confirmed(tmp_path: Path) -> None:
    def give(setting: Candidate, seed: int) -> Values:
        return 0.93, luck(setting, seed)[1] + (0.3 if setting.loss == "cross-entropy" else 0.0)

    ledger = new_ledger(tmp_path, config())
    numbers = confirmed(drive(ledger, give=give), ledger)
    assert [number for number in numbers if number.startswith("B")] == ["B0"]
