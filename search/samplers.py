"""Every sampler behind one name: the one place to add another."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler

from search.config import SamplerName


def _tpe(seed: int) -> BaseSampler:
    # multivariate: s and m act together; constant_liar: parallel trials do not all try the same spot.
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _random(seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


# A grid's points are fixed settings (``SweepConfig.fixed_settings``); only what replaces a failed one is drawn.
SAMPLERS: Final[Mapping[SamplerName, Callable[[int], BaseSampler]]] = {"tpe": _tpe, "random": _random, "grid": _random}


def make_sampler(name: SamplerName, seed: int, number: int, fixed: Mapping[str, float] | None = None) -> BaseSampler:
    """The sampler for one ask.

    Args:
        name: Which one.
        seed: The search's seed.
        number: The number of the trial to be suggested. A sampler made anew from (seed, number) suggests the same to a
            resumed search as to an uninterrupted one.
        fixed: Values that are not to be sampled.
    """
    draw = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        # multivariate TPE and PartialFixedSampler are marked experimental; the versions are pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if fixed is not None:
            return PartialFixedSampler(dict(fixed), RandomSampler(seed=draw))
        return SAMPLERS[name](draw)
