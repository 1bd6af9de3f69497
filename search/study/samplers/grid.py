"""A grid."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler

from search.config import SweepConfig
from search.study.samplers import sampler


@sampler("grid", source="every point of search.grid, in order")
def grid(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    """Never needed for a point of the grid: the points are fixed settings (``SweepConfig.fixed_settings``)."""
    del config, number
    return RandomSampler(seed=seed)
