"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

from optuna.samplers import BaseSampler, GPSampler

from search.config import SweepConfig
from search.study.samplers import sampler


@sampler(
    "gp",
    source="Daulton, Balandat, Bakshy 2020: Differentiable expected hypervolume improvement for parallel "
    "multi-objective Bayesian optimization. NeurIPS 33",
)
def gp(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    """Learns from complete trials, averages over the outcomes of running ones, and respects constraints.

    Imports torch into the driver with its first model: 600 MB and some seconds, for this sampler alone.
    """
    del config, number
    return GPSampler(seed=seed, warn_independent_sampling=False)
