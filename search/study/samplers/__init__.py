"""The samplers: each file without an underscore is one, named after the file, and holds its ``SAMPLER``.

A new sampler is made for each ask, from the search's seed and the trial's number, and reads everything else from the
study. A resumed search therefore gets the suggestions of an uninterrupted one. To add a sampler, add a file.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler
from optuna.trial import Trial

from search.config import SweepConfig
from search.study.observed import Observed
from search.study.samplers._distinct import DistinctSampler
from search.study.trials import Extension
from trainables.settings.space import Choices, Domain, Value


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler that a configuration can name.

    Args:
        make: Makes it for one ask, from the sweep, the number of the trial to suggest, and a seed drawn from that
            number. It must suggest the same for the same arguments and history.
        source: The paper that it follows.
        most_modelled: The most finished trials that it can model in reasonable time; None for no limit.
        marks: System attributes of a trial that it did not suggest itself, so that it learns from that one too.
        choose: Chooses the next unit, given the configuration, the next trial's number and the measurements so far: a
            new setting, another seed of a known one, or None to use the sampler of ``make``.
    """

    make: Callable[[SweepConfig, int, int], BaseSampler]
    source: str
    most_modelled: int | None = None
    marks: Mapping[str, int] = field(default_factory=dict)
    choose: Callable[[SweepConfig, int, Observed], Mapping[str, Value] | Extension | None] | None = None


def find(name: str) -> Sampler:
    """A sampler by its name, which is one of ``search.config.rules.SAMPLERS``."""
    found: Sampler = importlib.import_module(f"{__package__}.{name}").SAMPLER
    return found


def make_sampler(
    config: SweepConfig,
    number: int,
    fixed: Mapping[str, Value] | None = None,
    tried: Iterable[Mapping[str, Value]] = (),
) -> BaseSampler:
    """The sampler for the ask of trial ``number``.

    Values that are ``fixed`` are not sampled; the sampler still counts the trial as one of its own. The parameters of
    every trial so far, ``tried``, are iterated over only if some parameter is not a real number.
    """
    seed, other_seed = np.random.SeedSequence((config.search.seed, number)).generate_state(2).tolist()
    with warnings.catch_warnings():
        # Multivariate TPE and PartialFixedSampler are marked experimental, gamma deprecated; the versions are pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        base = find(config.search.sampler).make(config, number, seed)
        if fixed is not None:
            return PartialFixedSampler(dict(fixed), base)
        return DistinctSampler(base, distributions(config.domains), tried, other_seed)


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
