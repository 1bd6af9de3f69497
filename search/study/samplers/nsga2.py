"""NSGA-II, a genetic algorithm."""

from __future__ import annotations

from optuna import samplers
from optuna.samplers import BaseSampler

from search.config import SweepConfig
from search.study.samplers import sampler
from search.study.samplers._population import SameParents, population_size


class NSGAIISampler(SameParents, samplers.NSGAIISampler):
    """Optuna's, with the same parents for a row that was begun before. Optuna's marks contain the class's name."""


@sampler(
    "nsga2",
    source="Deb, Pratap, Agarwal, Meyarivan 2002: A fast and elitist multiobjective genetic algorithm: NSGA-II. "
    "IEEE TEVC 6",
    marks={"NSGAIISampler:generation": 0},
)
def nsga2(config: SweepConfig, number: int, seed: int) -> BaseSampler:
    """Breeds from complete trials of the generation before, and respects constraints."""
    del number
    return NSGAIISampler(seed=seed, population_size=population_size(config))
