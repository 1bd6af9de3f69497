"""The samplers: each file without an underscore is one, registered under the name of the file.

A new sampler is made for each ask, from the search's seed and the trial's number, and reads everything else from the
study. A resumed search therefore gets the suggestions of an uninterrupted one. To add a sampler, add a file.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler

from search.config import SweepConfig
from search.study.samplers._base import Sampler, find, names, sampler
from search.study.samplers._distinct import DistinctSampler
from search.study.space import distributions
from trainables.settings.space import Value

__all__ = ["DistinctSampler", "Sampler", "find", "make_sampler", "names", "sampler"]


def make_sampler(
    config: SweepConfig,
    number: int,
    fixed: Mapping[str, Value] | None = None,
    tried: Iterable[Mapping[str, Value]] = (),
) -> BaseSampler:
    """The sampler for one ask.

    Args:
        config: The sweep, with the sampler's name and seed.
        number: The number of the trial to suggest.
        fixed: Values that are not sampled. The sampler still counts the trial as one of its own.
        tried: The parameters of every trial so far. Iterated over only if some parameter is not a real number.
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
