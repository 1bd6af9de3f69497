"""Every sampler behind one name: the one place to add another.

A sampler is made anew for each ask, from the search's seed and the trial's number, and reads from the study whatever
else it must know. What each takes from there:

``tpe``: complete and pruned trials; a running one counts as a bad one (constant liar), so that parallel trials spread.
``nsga2``, ``nsga3``: complete trials of the generation before, which each trial is marked with; no running one.
``gp``: complete trials, and running ones as outcomes to be averaged over; its kernels are fitted anew each time.
``qmc``, ``random``, ``grid``: nothing.

All but the last three take constraints into account.

Deb, Pratap, Agarwal, Meyarivan 2002: A fast and elitist multiobjective genetic algorithm: NSGA-II. IEEE TEVC 6.
Deb, Jain 2014: An evolutionary many-objective optimization algorithm using reference-point-based nondominated sorting
approach, part I. IEEE TEVC 18.
Ozaki, Tanigaki, Watanabe, Nomura, Onishi 2022: Multiobjective tree-structured Parzen estimator. JAIR 73.
Daulton, Balandat, Bakshy 2020: Differentiable expected hypervolume improvement. NeurIPS 33.
Matousek 1998: On the L2-discrepancy for anchored boxes. Journal of Complexity 14.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import (
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.config.schema import SamplerName, SweepConfig

_SMALLEST_POPULATION: Final = 8
_LARGEST_POPULATION: Final = 50

# Marks by which NSGA-II and NSGA-III breed from trials that they have not suggested, as their first generation.
FIRST_GENERATION: Final[Mapping[str, int]] = {"NSGAIISampler:generation": 0, "NSGAIIISampler:generation": 0}


def population_size(budget: int) -> int:
    """Settings in a generation of NSGA-II and NSGA-III.

    Twice the square root of the budget, between 8 and 50: a search of 24 settings has two generations and a half, one
    of 100 five, and from 625 on the population is Optuna's default. With that default alone, a search of fewer than 50
    would never leave its first generation, which is random.

    Args:
        budget: Settings of the whole search, at least 1.
    """
    return min(max(round(2 * math.sqrt(budget)), _SMALLEST_POPULATION), _LARGEST_POPULATION)


def reference_divisions(objectives: int, population: int) -> int:
    """Divisions of each axis, so that NSGA-III has as many reference points as its population holds, or a few less.

    Args:
        objectives: At least 2.
        population: Settings in a generation.

    Source:
        Deb and Jain 2014, section IV-B: C(objectives + divisions - 1, divisions) points; section V: a population of
        about as many.
    """
    divisions = 1
    while math.comb(objectives + divisions, divisions + 1) <= population:
        divisions += 1
    return divisions


class SobolSampler(BaseSampler):
    """One point of a scrambled Sobol' sequence.

    Optuna's own sampler counts its asks in the study: one that its driver's death cut off would cost a point.

    Args:
        names: The parameters, one dimension each.
        seed: Seed of the scrambling, the same for all points of a search.
        position: Index of the point, from 0.

    Source:
        Matousek 1998 (the scrambling); computed by SciPy.
    """

    def __init__(self, names: Sequence[str], seed: int, position: int) -> None:
        self._names, self._seed, self._position = list(names), seed, position

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        del study, trial
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        del study, trial, search_space
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        """The point's coordinate, scaled to the distribution's range; never below its low end, which may be open."""
        from scipy.stats.qmc import Sobol  # half a second, for this sampler alone

        del study, trial
        assert isinstance(param_distribution, FloatDistribution)
        low, high = param_distribution.low, param_distribution.high
        sequence = Sobol(len(self._names), scramble=True, rng=self._seed)
        if self._position > 0:
            sequence.fast_forward(self._position)
        coordinate = float(sequence.random(1)[0, self._names.index(param_name)])
        return min(low + coordinate * (high - low), high)


class DistinctSampler(BaseSampler):
    """Another sampler, but what has been tried already is drawn at random instead.

    Every setting is trained with the same seeds: to try one again is to learn nothing. A child of NSGA-II without a
    mutation is often one of its parents, and a Gaussian process may want the same corner of the space again.

    Args:
        base: The sampler.
    """

    def __init__(self, base: BaseSampler) -> None:
        self._base = base

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._base.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        params = self._base.sample_relative(study, trial, search_space)
        if params.keys() < search_space.keys():  # what is left out (a mutation) is drawn at random anyway
            return params
        tried = any(params.items() <= other.params.items() for other in study.get_trials(deepcopy=False))
        return {} if tried else params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._base.sample_independent(study, trial, param_name, param_distribution)


def good_trials(trials: int, reduction_factor: float) -> int:
    """How many of a history's trials TPE models as the good ones: a tenth of those that are trained to their end.

    Optuna takes a tenth of all, stopped ones included. These are never among the good, who would then be two of five of
    the others (tests/benchmarks/halving.py).

    Args:
        trials: Those that have ended or run, at least 0.
        reduction_factor: One of so many is trained to its end; 1 without halving.
    """
    return math.ceil(0.1 * trials / reduction_factor)


def _tpe(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    del number
    halving = config.search.halving
    gamma = None if halving is None else partial(good_trials, reduction_factor=halving.reduction_factor)
    # multivariate: s and m act together; constant_liar: parallel trials do not all try the same spot.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True, gamma=gamma)


def _nsga2(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    del number
    return NSGAIISampler(seed=seed, population_size=population_size(config.budget))


def _nsga3(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    del number
    population = population_size(config.budget)
    divisions = reference_divisions(len(config.objectives), population)
    return NSGAIIISampler(seed=seed, population_size=population, dividing_parameter=divisions)


def _gp(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    # Imports torch into the driver when it first has a history to model: 600 MB and seconds, for this sampler alone.
    del config, number
    return GPSampler(seed=seed, warn_independent_sampling=False)


def _qmc(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    del seed
    return SobolSampler(list(config.domains), config.search.seed, max(number - len(config.fixed_settings), 0))


def _random(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    del config, number
    return RandomSampler(seed=seed)


# A grid's points are fixed settings (``SweepConfig.fixed_settings``); only what replaces a failed one is drawn.
SAMPLERS: Final[Mapping[SamplerName, Callable[[SweepConfig, int, int], BaseSampler]]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "nsga3": _nsga3,
    "gp": _gp,
    "qmc": _qmc,
    "random": _random,
    "grid": _random,
}


def make_sampler(config: SweepConfig, number: int, fixed: Mapping[str, float] | None = None) -> BaseSampler:
    """The sampler for one ask.

    Args:
        config: The sweep, with the sampler's name and seed.
        number: The number of the trial to be suggested. A sampler made anew from (seed, number) suggests the same to a
            resumed search as to an uninterrupted one.
        fixed: Values that are not to be sampled; the sampler still counts the trial as one of its own.
    """
    seed = int(np.random.SeedSequence((config.search.seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        # multivariate TPE and PartialFixedSampler are marked experimental, gamma as one that will go; the versions are
        # pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        sampler = SAMPLERS[config.search.sampler](config, number, seed)
        return DistinctSampler(sampler) if fixed is None else PartialFixedSampler(dict(fixed), sampler)
