"""A grid: its points are fixed settings (``SweepConfig.fixed_settings``), so nothing is ever drawn."""

from optuna.samplers import RandomSampler

from search.study.samplers import Sampler

SAMPLER = Sampler(
    make=lambda _config, _number, seed: RandomSampler(seed=seed), source="every point of search.grid, in order"
)
