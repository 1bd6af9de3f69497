"""A sampler that tries no setting twice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from trainables.settings.space import Value


class DistinctSampler(BaseSampler):
    """Another sampler, with a random setting in place of one that has been tried already.

    Every setting is trained with the same seeds, so trying one again teaches nothing. A child of NSGA-II without a
    mutation is often one of its parents, a Gaussian process may want the same corner of the space again, and a space of
    whole numbers and choices has few settings.

    If a parameter of ``space`` is no real number, all are sampled together, and compared with the parameters of every
    trial so far, ``tried``, as the sampler may not look back on all of them. A space without real numbers is finite: a
    setting is then repeated only once all have been tried.
    """

    def __init__(
        self,
        base: BaseSampler,
        space: Mapping[str, BaseDistribution] | None = None,
        tried: Iterable[Mapping[str, Value]] = (),
        seed: int = 0,
    ) -> None:
        self._base, self._seed, self._tried = base, seed, tried
        self._space = {name: each for name, each in (space or {}).items() if not each.single()}
        self._together = any(not isinstance(each, FloatDistribution) for each in self._space.values())

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space if self._together else self._base.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._together:
            return self._sample_together(study, trial)
        params = self._base.sample_relative(study, trial, search_space)
        if params.keys() < search_space.keys():  # what is left out (a mutation) is drawn at random anyway
            return params
        tried = any(params.items() <= other.params.items() for other in study.get_trials(deepcopy=False))
        return {} if tried else params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._base.sample_independent(study, trial, param_name, param_distribution)

    def _sample_together(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        space, base = self._space, self._base
        relative = base.sample_relative(study, trial, base.infer_relative_search_space(study, trial))
        values = {
            name: relative[name] if name in relative else base.sample_independent(study, trial, name, each)
            for name, each in space.items()
        }
        tried = {tuple(params[name] for name in space) for params in self._tried if params.keys() >= space.keys()}
        if tuple(values.values()) not in tried:
            return values
        if any(isinstance(each, FloatDistribution) for each in space.values()):
            random = RandomSampler(self._seed)
            return {name: random.sample_independent(study, trial, name, each) for name, each in space.items()}
        axes = [_values(each) for each in space.values()]
        count = math.prod(map(len, axes))
        start = Random(self._seed).randrange(count)
        for step in range(count):  # at most one step per setting that has been tried
            other = _point(axes, (start + step) % count)
            if other not in tried:
                return dict(zip(space, other, strict=True))
        return values


def _values(distribution: BaseDistribution) -> Sequence[Any]:
    """Every value of a finite distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution)
    return range(distribution.low, distribution.high + 1)


def _point(axes: Sequence[Sequence[Any]], index: int) -> tuple[Any, ...]:
    """One of the points of a finite space, by its index; the first axis varies fastest."""
    values = []
    for axis in axes:
        index, position = divmod(index, len(axis))
        values.append(axis[position])
    return tuple(values)
