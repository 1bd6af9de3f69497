"""The samplers' parts: what the contract suite cannot see."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._gp.search_space import SearchSpace
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from scipy.stats import qmc

from search.config.rules import SAMPLERS
from search.study import Ledger, open_storage
from search.study.samplers import DistinctSampler, find, make_sampler
from search.study.samplers.nsga2 import population_size
from search.study.samplers.nsga3 import reference_divisions
from search.study.samplers.qmc import SobolSampler, scaled
from search.study.samplers.tpe import good_trials
from tests.search.examples import result, small_config


@given(budget=st.integers(1, 10_000))
def test_a_population_grows_with_the_budget_and_leaves_it_generations(budget: int) -> None:
    config = small_config()
    size, next_size = (
        population_size(config.model_copy(update={"search": config.search.model_copy(update={"trials": trials})}))
        for trials in (budget, budget + 1)
    )
    assert 8 <= size <= next_size <= 50
    if budget >= 16:
        assert budget / size >= 2


@given(objectives=st.integers(2, 6), population=st.integers(8, 50))
def test_nsga3_has_as_many_reference_points_as_its_population_holds(objectives: int, population: int) -> None:
    def points(divisions: int) -> int:
        return math.comb(objectives + divisions - 1, divisions)

    divisions = reference_divisions(objectives, population)
    assert points(divisions) <= population < points(divisions + 1)


def suggested(sampler: BaseSampler, space: dict[str, BaseDistribution]) -> dict[str, float]:
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
    return dict(study.ask(space).params)


SPACE: dict[str, BaseDistribution] = {"s": FloatDistribution(1, 2), "m": FloatDistribution(math.nextafter(0, 1), 0.1)}


def test_sobol_points_are_those_of_one_sequence() -> None:
    expected = qmc.Sobol(2, scramble=True, rng=5).random(16)
    points = [suggested(SobolSampler(["s", "m"], seed=5, position=i), SPACE) for i in range(16)]
    assert np.allclose([[1 + x, 0.1 * y] for x, y in expected], [[point["s"], point["m"]] for point in points])


def test_the_sequence_begins_where_the_fixed_settings_end() -> None:
    config = small_config(search={"sampler": "qmc", "enqueue": [{"s": 1.5, "m": 0.05}]})
    first = suggested(make_sampler(config, number=2), SPACE)
    assert first == suggested(SobolSampler(["s", "m"], seed=0, position=0), SPACE)


@given(low=st.floats(-10, 10), width=st.floats(1e-9, 10), coordinate=st.floats(0, 1))
def test_no_coordinate_is_scaled_below_an_open_end(low: float, width: float, coordinate: float) -> None:
    """The three ways in which samplers scale [0, 1] to a range: our Sobol' points, Optuna's others, its GP."""
    lowest, high = math.nextafter(low, math.inf), low + width
    space = {"m": FloatDistribution(lowest, high)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qmc.Sobol, "random", lambda *_: np.array([[coordinate]]))
        ours = suggested(SobolSampler(["m"], seed=0, position=0), space)["m"]  # type: ignore[arg-type]
    unit = _SearchSpaceTransform(space, transform_0_1=True)  # type: ignore[arg-type]
    others = unit.untransform(np.array([coordinate]))["m"]
    gp = SearchSpace(space).get_unnormalized_param(np.array([coordinate]))["m"]  # type: ignore[arg-type]
    for value in (ours, others, gp):
        assert low < lowest <= value <= high


class Stubborn(RandomSampler):
    """Suggests the same again and again."""

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return SPACE

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {"s": 1.5, "m": 0.05}


def test_a_setting_that_was_tried_is_replaced_whatever_became_of_it() -> None:
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=DistinctSampler(Stubborn(seed=0)))
    first = study.ask(SPACE)
    assert first.params == {"s": 1.5, "m": 0.05}
    others = [study.ask(SPACE).params for _ in range(3)]
    assert first.params not in others


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_a_genetic_search_repeats_no_parent(name: str) -> None:
    config = small_config(search={"sampler": name, "trials": 60})
    study = optuna.create_study(directions=["maximize", "maximize"])
    for number in range(60):
        study.sampler = make_sampler(config, number)
        trial = study.ask(SPACE)
        study.tell(trial, [trial.params["s"], -(trial.params["s"] ** 2) - trial.params["m"]])
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 60


def test_enqueued_settings_breed() -> None:
    config = small_config(search={"sampler": "nsga2", "trials": 9, "enqueue": [{"s": 1.5, "m": 0.05}]})
    ledger = Ledger(open_storage("sqlite://"), config, "new")
    while (unit := ledger.ask()) is not None:
        ledger.finish(unit.number, result(0.9, 0.5))
    marks = [trial.system_attrs["NSGAIISampler:generation"] for trial in ledger._search.study.trials]
    assert marks == [0] * 8 + [1]


def test_a_sampler_is_named_after_its_file_and_says_what_it_follows() -> None:
    for name in SAMPLERS:
        assert find(name).source


@given(
    low=st.integers(1, 20),
    width=st.integers(0, 20),
    log=st.booleans(),
    coordinate=st.floats(0, 1),
    count=st.integers(1, 7),
)
def test_a_coordinate_is_scaled_to_every_kind_of_parameter(
    low: int, width: int, log: bool, coordinate: float, count: int
) -> None:
    whole = scaled(coordinate, IntDistribution(low, low + width, log=log))
    assert isinstance(whole, int)
    assert low <= whole <= low + width
    assert low <= float(scaled(coordinate, FloatDistribution(low, low + width, log=log))) <= low + width
    choices = tuple("abcdefg"[:count])
    assert scaled(coordinate, CategoricalDistribution(choices)) == choices[min(int(coordinate * count), count - 1)]


def test_whole_numbers_and_choices_have_equal_shares_of_the_coordinates() -> None:
    coordinates = (np.arange(1200) + 0.5) / 1200
    for distribution in (IntDistribution(1, 4), CategoricalDistribution((1, 2, 3, 4))):
        values = [scaled(float(coordinate), distribution) for coordinate in coordinates]
        assert [values.count(value) for value in (1, 2, 3, 4)] == [300] * 4
    logarithmic = scaled(0.5, FloatDistribution(1e-4, 1.0, log=True))
    assert logarithmic == pytest.approx(1e-2)


def test_importing_the_samplers_imports_nothing_heavy() -> None:
    code = (
        "import sys, search.config, search.study\n"
        "heavy = 'torch', 'scipy.stats', 'pandas', 'matplotlib', 'mlflow', 'ray'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_with_halving_a_tenth_of_the_finished_trials_is_good() -> None:
    assert [good_trials(trials, 1) for trials in (0, 1, 10, 11, 260)] == [0, 1, 1, 2, 26]
    assert [good_trials(trials, 3) for trials in (0, 1, 30, 31, 260)] == [0, 1, 1, 2, 9]
