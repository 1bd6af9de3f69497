"""A scrambled Sobol' sequence: one for the whole search, which begins after the fixed settings; learns from nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.config import SweepConfig
from search.study.samplers import Sampler
from trainables.settings.space import Value


class SobolSampler(RandomSampler):
    """The point at an index (from 0) of a Sobol' sequence with one dimension per parameter.

    Optuna's own sampler counts its asks in the study, so an ask that its driver's death cut off would lose a point.
    ``seed`` is that of the scrambling, the same for all points of a search.

    Source:
        Matousek 1998 (the scrambling); computed by SciPy.
    """

    def __init__(self, names: Sequence[str], seed: int, position: int) -> None:
        super().__init__()
        self._names, self._seed, self._position = list(names), seed, position

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Value:
        from scipy.stats.qmc import Sobol  # half a second, for this sampler alone

        del study, trial
        sequence = Sobol(len(self._names), scramble=True, rng=self._seed)
        if self._position > 0:
            sequence.fast_forward(self._position)
        return scaled(float(sequence.random(1)[0, self._names.index(param_name)]), param_distribution)


def scaled(coordinate: float, distribution: BaseDistribution) -> Value:
    """The value at a coordinate in [0, 1] of a distribution.

    Whole numbers and choices each get an equal share of [0, 1]; with ``log``, a share of the logarithm. A real number
    is never below the low end, which may be open.
    """
    if isinstance(distribution, CategoricalDistribution):
        choices: tuple[Any, ...] = distribution.choices
        choice: Value = choices[min(int(coordinate * len(choices)), len(choices) - 1)]
        return choice
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = float(distribution.low), float(distribution.high)
    if isinstance(distribution, IntDistribution):
        low, high = low - 0.5, high + 0.5
    if distribution.log:
        value = math.exp(math.log(low) + coordinate * (math.log(high) - math.log(low)))
    else:
        value = low + coordinate * (high - low)
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def sobol(config: SweepConfig, number: int, _seed: int) -> BaseSampler:
    """The Sobol' sequence of a search, at the position of the trial."""
    return SobolSampler(list(config.domains), config.search.seed, max(number - len(config.fixed_settings), 0))


SAMPLER = Sampler(
    make=sobol,
    source="Matousek 1998: On the L2-discrepancy for anchored boxes. Journal of Complexity 14",
)
