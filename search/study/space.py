"""The search space as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from trainables.settings.space import Choices, Domain


def distributions(domains: Mapping[str, Domain]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each parameter."""
    return {name: _distribution(domain) for name, domain in domains.items()}


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain, Choices):
        return CategoricalDistribution(domain.choices)
    if domain.integer:
        return IntDistribution(int(domain.lowest), int(domain.high), log=domain.log)
    return FloatDistribution(domain.lowest, domain.high, log=domain.log)


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """Asks a trial's sampler for one parameter, and writes the value down."""
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
