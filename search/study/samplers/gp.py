"""Bayesian optimisation with a Gaussian process.

Learns from complete trials, averages over the outcomes of running ones, and respects constraints. Imports torch into
the driver with its first model: 600 MB and some seconds, for this sampler alone.
"""

from optuna.samplers import GPSampler

from search.study.samplers import Sampler

SAMPLER = Sampler(
    make=lambda _config, _number, seed: GPSampler(seed=seed, warn_independent_sampling=False),
    source="Daulton, Balandat, Bakshy 2020: Differentiable expected hypervolume improvement for parallel "
    "multi-objective Bayesian optimization. NeurIPS 33",
)
