"""Tree-structured Parzen estimators, for several objectives."""

from __future__ import annotations

import math
from functools import partial

from optuna.samplers import BaseSampler, TPESampler

from search.config import SweepConfig
from search.study.samplers import Sampler


def tpe(config: SweepConfig, _number: int, seed: int) -> BaseSampler:
    """Learns from complete and pruned trials, and respects constraints.

    A running trial counts as a bad one (constant liar), so that parallel trials spread. The model is multivariate,
    because the parameters act together.
    """
    halving = config.search.halving
    gamma = None if halving is None else partial(good_trials, reduction_factor=halving.reduction_factor)
    return TPESampler(seed=seed, multivariate=True, constant_liar=True, gamma=gamma)


SAMPLER = Sampler(
    make=tpe,
    source="Ozaki, Tanigaki, Watanabe, Nomura, Onishi 2022: Multiobjective tree-structured Parzen estimator. JAIR 73",
    most_modelled=500,
)


def good_trials(trials: int, reduction_factor: float) -> int:
    """How many trials of a history TPE models as the good ones: a tenth of those that are trained to their end.

    Optuna takes a tenth of all trials, stopped ones included. Stopped trials are never good, so the good ones would be
    two fifths of the rest (tests/benchmarks/halving.py).
    """
    return math.ceil(0.1 * trials / reduction_factor)
