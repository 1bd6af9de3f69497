"""Random search."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from search.config import SweepConfig
from search.study.samplers import sampler


@sampler("random", source="Bergstra, Bengio 2012: Random search for hyper-parameter optimization. JMLR 13")
def random(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    """Draws every parameter at random and learns from nothing."""
    del config, number
    return RandomSampler(seed=seed)
