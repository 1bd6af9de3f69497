"""The sampler that models noise: the settings it tries, when it trains another seed, and its limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import InMemoryStorage

from search.config import SweepConfig
from search.errors import UserError
from search.study import Ledger, Unit, open_storage
from search.study.observed import Observed
from search.study.samplers.nehvi import choose
from search.study.trials import Extension
from tests.contracts.test_samplers import begin_and_die
from tests.search.examples import result, small_config
from trainables.settings.space import Choices, Domain, Range


def config(trials: int = 14, **sections: Any) -> SweepConfig:
    search = {"sampler": "nehvi", "trials": trials}
    return small_config(**{"search": search, "loss": {"name": "label-smoothing"}, **sections})


def noise_alone(generator: np.random.Generator) -> tuple[float, float]:
    """No effect of the setting: only the seeds differ."""
    return 0.9 + generator.normal(0, 0.003), 0.3 + generator.normal(0, 0.04)


def run(ledger: Ledger, most: int = 100, at_once: int = 1) -> list[Unit]:
    """Runs the units side by side; the noise of each depends on the unit alone."""
    units: list[Unit] = []
    running: list[Unit] = []
    while True:
        while len(running) < at_once and len(units) < most and (unit := ledger.ask()) is not None:
            running.append(unit)
            units.append(unit)
        if not running:
            return units
        finish(ledger, running.pop(0))


def finish(ledger: Ledger, unit: Unit) -> None:
    parameters = [int(1e6 * float(value)) for value in unit.candidate.parameters.values()]
    generator = np.random.default_rng([unit.seed, *parameters])
    ledger.finish(unit.number, result(*noise_alone(generator), seed=unit.seed))


def opened(folder: Path, sweep: SweepConfig) -> Ledger:
    new = not (folder / "study.db").exists()
    ledger = Ledger(open_storage(f"sqlite:///{folder / 'study.db'}"), sweep, "new" if new else "resume")
    ledger.adopt()
    return ledger


def test_under_noise_alone_known_settings_get_further_seeds_within_the_budget() -> None:
    sweep = config(16)
    ledger = Ledger(InMemoryStorage(), sweep, "new")
    units = run(ledger)
    further = [unit for unit in units if unit.seed > 0]
    assert further
    assert {unit.role for unit in units} == {"search"}
    assert sum(unit.number[0] != "B" for unit in units) == 16 == ledger.counts().complete
    pairs = [(tuple(unit.candidate.parameters.items()), unit.seed) for unit in units]
    assert len(set(pairs)) == len(pairs)
    # The seeds of a setting follow each other, so that settings share them.
    for setting in {pair[0] for pair in pairs}:
        seeds = sorted(seed for other, seed in pairs if other == setting)
        assert seeds == list(range(len(seeds)))
    assert ledger.complete


def test_drivers_that_die_and_are_replaced_choose_the_same_units(tmp_path: Path) -> None:
    sweep = config(14)
    whole = run(Ledger(InMemoryStorage(), sweep, "new"))
    assert any(unit.seed for unit in whole)
    units: list[Unit] = []
    while len(units) < len(whole):
        ledger = opened(tmp_path, sweep)
        units += run(ledger, most=3)
        if len(units) < len(whole):
            begin_and_die(ledger)
        ledger.close()
    assert units == whole


def test_units_that_run_side_by_side_are_different() -> None:
    units = run(Ledger(InMemoryStorage(), config(14), "new"), at_once=4)
    assert len({(str(unit.candidate), unit.seed) for unit in units}) == len(units)


def racing(**search: Any) -> SweepConfig:
    return config(train={"replicates": 3}, search={"sampler": "random", "trials": 20, "racing": True, **search})


def best_at_small_epsilons(unit: Unit) -> tuple[float, float]:
    epsilon = float(unit.candidate.parameters.get("epsilon", 0.0))
    shift = 0.001 * np.random.default_rng([unit.seed, int(1e6 * epsilon)]).normal()
    return 0.95 - 0.2 * epsilon + shift, 0.5 - 0.5 * epsilon + shift


def test_in_a_race_settings_that_cannot_be_on_the_front_get_no_further_seed(tmp_path: Path) -> None:
    def race_down(ledger: Ledger, most: int = 100) -> list[Unit]:
        units = []
        while len(units) < most and (unit := ledger.ask()) is not None:
            units.append(unit)
            ledger.finish(unit.number, result(*best_at_small_epsilons(unit), seed=unit.seed))
        return units

    ledger = Ledger(InMemoryStorage(), racing(), "new")
    whole = race_down(ledger)
    units = [unit for unit in whole if unit.number[0] != "B" and unit.candidate.parameters]
    seeds = Counter(float(unit.candidate.parameters["epsilon"]) for unit in units)
    assert ledger.counts().finished == 20
    assert ledger.complete
    assert max(seeds.values()) <= 3
    assert seeds[min(seeds)] == 3
    assert seeds[max(seeds)] == 1
    assert len(seeds) > 20 / 3 + 1  # the saved units go into more settings
    again: list[Unit] = []
    for _ in range(3):
        again += race_down(opened(tmp_path, racing()), most=10)
    assert again == whole


@pytest.mark.parametrize(("sampler", "why"), [("nehvi", "it chooses seeds itself"), ("grid", "with all seeds")])
def test_samplers_that_do_not_race(sampler: str, why: str) -> None:
    with pytest.raises(UserError, match=f"search.racing must be false for the sampler {sampler}, got true; .*{why}"):
        racing(sampler=sampler)


SPACE: dict[str, Domain] = {"x": Range(low=0.0, high=1.0), "kind": Choices(choices=("a", "b"))}


def observed(
    truth: Callable[[float, str], Mapping[str, float]], seeds: int = 2, noise: float = 0.0, space: Any = SPACE
) -> Observed:
    """Nine settings, each with the same seeds."""
    settings = [{"x": x, "kind": kind} for kind in "ab" for x in (0.0, 0.25, 0.5, 0.75)] + [{"x": 0.9, "kind": "a"}]
    generator = np.random.default_rng(0)
    values = tuple(
        (setting, seed, {name: value + noise * generator.normal() for name, value in truth(**setting).items()})  # type: ignore[arg-type]
        for setting in settings
        for seed in range(seeds)
    )
    complete = {str(number): setting for number, setting in enumerate(settings)}
    return Observed(
        space=space,
        settings=tuple(settings),
        complete=complete,
        values=values,
        running=(),
        next_seeds=dict.fromkeys(complete, (seeds, -1)),
        first_seed=0,
        tried=frozenset(tuple(sorted(setting.items())) for setting in settings),
    )


def with_objectives(**sections: Any) -> SweepConfig:
    return small_config(search={"sampler": "nehvi"}, **sections)


def trade_off(x: float, kind: str) -> dict[str, float]:
    """Only ``a`` is good; the optimum lies between the measured points, near 0.6."""
    worse = 0.3 if kind == "b" else 0.0
    return {"clean_accuracy": 0.9 - (x - 0.6) ** 2 - worse, "robust_accuracy": 0.5 - (x - 0.62) ** 2 - worse}


def test_without_noise_it_tries_a_better_setting_and_no_further_seed() -> None:
    choice = choose(with_objectives(), 9, observed(trade_off))
    assert isinstance(choice, Mapping)
    assert choice["kind"] == "a"
    assert 0.5 < choice["x"] < 0.75


def test_a_seed_that_moves_all_settings_alike_is_worth_nothing() -> None:
    """A seed that no other setting has says nothing about the order of the settings."""
    space: dict[str, Domain] = {"x": Range(low=0.0, high=1.0), "y": Range(low=0.0, high=1.0)}
    for sweep in (1, 2):
        generator = np.random.default_rng(sweep)
        effects = generator.normal(0, 0.05, (3, 2))
        settings = [{"x": x, "y": y} for x, y in generator.random((9, 2)).tolist()]
        values = tuple(
            (
                setting,
                seed,
                {
                    "clean_accuracy": 0.95
                    - 0.025 * setting["x"]
                    + 0.1 * effects[seed, 0]
                    + 0.0003 * generator.normal(),
                    "robust_accuracy": 0.3 + 0.2 * setting["x"] ** 0.5 + effects[seed, 1] + 0.002 * generator.normal(),
                },
            )
            for at, setting in enumerate(settings)
            for seed in range(2 if at < 4 else 1)
        )
        complete = {str(number): setting for number, setting in enumerate(settings)}
        known = Observed(
            space=space,
            settings=tuple(settings),
            complete=complete,
            values=values,
            running=(),
            next_seeds={number: (2, -3) if int(number) < 4 else (1, 1) for number in complete},
            first_seed=0,
            tried=frozenset(tuple(sorted(setting.items())) for setting in settings),
        )
        choice = choose(with_objectives(), 9, known)
        assert not (isinstance(choice, Extension) and choice.seed == 2)


@pytest.mark.parametrize(("expensive", "cheap"), ["ab", "ba"])
def test_of_settings_that_are_alike_it_prefers_those_that_cost_less(expensive: str, cheap: str) -> None:
    def costing(x: float, kind: str) -> dict[str, float]:
        return {**trade_off(x, "a"), "train_passes": 1e6 if kind == expensive else 1e4, "attack_passes": 1e3}

    finite: dict[str, Domain] = {"x": Choices(choices=(0.0, 0.25, 0.5, 0.75)), "kind": Choices(choices=("a", "b"))}
    known = observed(costing, noise=0.05, space=finite)
    choice = choose(with_objectives(), 9, known)
    assert isinstance(choice, Extension)
    assert known.complete[choice.number]["kind"] == cheap


def test_a_new_setting_costs_what_its_defence_costs() -> None:
    """The steps of adversarial training are searched, and have no effect."""
    sweep = small_config(
        search={"sampler": "nehvi"},
        defence={"name": "adversarial-training", "norm": "l2", "epsilon": 0.5, "steps": 5},
        space={"defence.steps": {"low": 1, "high": 40}, "loss.epsilon": {"low": 0.05, "high": 0.3}},
        loss={"name": "label-smoothing"},
    )
    settings = [{"defence.steps": steps, "epsilon": 0.1} for steps in (2, 10)]
    values = tuple(
        (setting, 0, {"train_passes": 100.0 * (2 + 2 * setting["defence.steps"]), "attack_passes": 30.0 + at})
        for at, setting in enumerate(settings)
    )
    known = Observed(
        space=sweep.domains,
        settings=tuple(settings),
        complete={},
        values=values,
        running=(),
        next_seeds={},
        first_seed=0,
        tried=frozenset(),
    )
    defence = sweep.problem.defence
    assert known.work(settings[1], defence) == 100 * 22 + 31
    assert known.work({"defence.steps": 40, "epsilon": 0.2}, defence) == pytest.approx(100 * 82 + 30.5)


def test_a_constraint_keeps_it_where_the_constraint_is_met() -> None:
    def bounded(x: float, kind: str) -> dict[str, float]:
        return {**trade_off(x, kind), "train_seconds": 1 + 10 * x}

    sweep = with_objectives(constraints={"train_seconds": "<= 4.0"})  # x at most 0.3
    choice = choose(sweep, 9, observed(bounded))
    assert isinstance(choice, Mapping)
    assert choice["kind"] == "a"
    assert 0.2 < choice["x"] < 0.35


def test_three_objectives_of_which_one_is_minimised() -> None:
    def costly(x: float, kind: str) -> dict[str, float]:
        return {**trade_off(x, kind), "train_seconds": 1 + 10 * abs(x - 0.6)}

    directions = {"clean_accuracy": "maximize", "robust_accuracy": "maximize", "train_seconds": "minimize"}
    choice = choose(with_objectives(objectives=directions), 9, observed(costly))
    assert isinstance(choice, Mapping)
    assert 0.5 < choice["x"] < 0.75


def test_it_trains_another_seed_once_every_setting_has_been_tried() -> None:
    finite: dict[str, Domain] = {"x": Choices(choices=(0.0, 0.25, 0.5, 0.75, 0.9)), "kind": Choices(choices=("a",))}
    known = observed(lambda x, kind: trade_off(x, kind), noise=0.05, space=finite)
    choice = choose(with_objectives(), 9, known)
    assert isinstance(choice, Extension)
    assert (choice.seed, choice.role) == (2, "search")


def test_the_same_is_chosen_for_the_same_number_and_another_point_for_another() -> None:
    known = observed(trade_off)
    first, again, other = (choose(with_objectives(), number, known) for number in (9, 9, 10))
    assert first == again != other


def test_a_finite_space_is_searched_with_further_seeds_once_all_of_it_has_been_tried() -> None:
    sweep = config(12, loss={"name": "cross-entropy"}, space={"train.batch_size": {"choices": [64, 128, 256]}})
    units = [unit for unit in run(Ledger(InMemoryStorage(), sweep, "new")) if unit.number[0] != "B"]
    assert len(units) == 12
    assert len({str(unit.candidate) for unit in units}) == 3
    assert len({(str(unit.candidate), unit.seed) for unit in units}) == 12


def test_the_search_begins_with_a_sobol_sequence() -> None:
    few = observed(trade_off)
    settings = few.settings[:5]
    few = Observed(**{**few.__dict__, "settings": settings})
    assert choose(with_objectives(), 5, few) is None
