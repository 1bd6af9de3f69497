"""The search space as Optuna's distributions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, assert_never

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from trainables.settings.space import Choices, Domain, Range, Value


def distributions(domains: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each parameter."""
    return {name: _distribution(domain) for name, domain in domains.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    match domain:
        case Choices():
            return CategoricalDistribution(domain.choices)
        case Range(integer=True):
            return IntDistribution(int(domain.lowest), int(domain.high), log=domain.log)
        case Range():
            return FloatDistribution(domain.lowest, domain.high, log=domain.log)
        case _:
            assert_never(domain)


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Value:
    """Asks a trial's sampler for one parameter, and writes the value down."""
    value: Any
    if isinstance(distribution, CategoricalDistribution):
        value = trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        value = trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    else:
        assert isinstance(distribution, FloatDistribution)
        value = trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
    checked: Value = value
    return checked


def size(space: Mapping[str, BaseDistribution]) -> int | None:
    """How many points a space has; None if one of its parameters is a real number."""
    counts = [_count(distribution) for distribution in space.values()]
    return None if None in counts else math.prod(count for count in counts if count is not None)


def point(space: Mapping[str, BaseDistribution], index: int) -> dict[str, Value]:
    """One of the points of a finite space.

    Args:
        space: As for ``size``, which must be a number here.
        index: From 0 to below the size.
    """
    values: dict[str, Value] = {}
    for name, distribution in space.items():
        count = _count(distribution)
        assert count is not None
        index, position = divmod(index, count)
        if isinstance(distribution, CategoricalDistribution):
            choice: Any = distribution.choices[position]
            values[name] = choice
        else:
            assert isinstance(distribution, IntDistribution)
            values[name] = distribution.low + position
    return values


def _count(distribution: BaseDistribution) -> int | None:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    return distribution.high - distribution.low + 1 if isinstance(distribution, IntDistribution) else None
