"""NSGA-III, a genetic algorithm for three or more objectives."""

from __future__ import annotations

import math

from optuna import samplers
from optuna.samplers import BaseSampler

from search.config import SweepConfig
from search.study.samplers import Sampler
from search.study.samplers.nsga2 import SameParents, population_size


class NSGAIIISampler(SameParents, samplers.NSGAIIISampler):
    """Optuna's, with the same parents for a row that was begun before. Optuna's marks contain the class's name."""


def nsga3(config: SweepConfig, _number: int, seed: int) -> BaseSampler:
    """Breeds from complete trials of the generation before, and respects constraints."""
    population = population_size(config)
    divisions = reference_divisions(len(config.objectives), population)
    return NSGAIIISampler(seed=seed, population_size=population, dividing_parameter=divisions)


SAMPLER = Sampler(
    make=nsga3,
    source="Deb, Jain 2014: An evolutionary many-objective optimization algorithm using reference-point-based "
    "nondominated sorting approach, part I. IEEE TEVC 18",
    marks={"NSGAIIISampler:generation": 0},
)


def reference_divisions(objectives: int, population: int) -> int:
    """Divisions of each axis that give about as many reference points as the population has settings, never more.

    Source:
        Deb and Jain 2014: C(objectives + divisions - 1, divisions) points, and a population of about as many.
    """
    divisions = 1
    while math.comb(objectives + divisions, divisions + 1) <= population:
        divisions += 1
    return divisions
