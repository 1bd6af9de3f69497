"""NSGA-II, a genetic algorithm, and what it shares with NSGA-III.

Breeds from complete trials of the generation before, and respects constraints.
"""

from __future__ import annotations

import math
from typing import Any, Final

from optuna import samplers
from optuna.distributions import BaseDistribution
from optuna.samplers._ga import BaseGASampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.config import SweepConfig
from search.study.samplers import Sampler

_SMALLEST: Final = 8
_LARGEST: Final = 50


def population_size(config: SweepConfig) -> int:
    """Settings in a generation.

    Twice the square root of the planned settings, between 8 and 50: a search of 24 settings has two and a half
    generations, one of 100 has five, and from 625 on the population is Optuna's default. With that default a search of
    fewer than 50 settings would never leave its first generation, which is random.
    """
    settings = math.ceil(config.budget / config.train.replicates)
    return min(max(round(2 * math.sqrt(settings)), _SMALLEST), _LARGEST)


class SameParents(BaseGASampler):
    """A genetic sampler that suggests the same again for a row whose driver died within the ask.

    Optuna stores a generation's parents with its first trial, and reads them in another order afterwards. A half-made
    row that is the first of its generation must choose them again.
    """

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        key = self._get_generation_key()
        generation = trial.system_attrs.get(key)
        if generation and all(other.system_attrs.get(key) != generation for other in study.get_trials(deepcopy=False)):
            parents = f"{self._get_parent_cache_key_prefix()}{generation}"
            study._storage.set_study_system_attr(study._study_id, parents, None)
        values: dict[str, Any] = super().sample_relative(study, trial, search_space)  # type: ignore[safe-super]
        return values


class NSGAIISampler(SameParents, samplers.NSGAIISampler):
    """Optuna's, with the same parents for a row that was begun before. Optuna's marks contain the class's name."""


SAMPLER = Sampler(
    make=lambda config, _number, seed: NSGAIISampler(seed=seed, population_size=population_size(config)),
    source="Deb, Pratap, Agarwal, Meyarivan 2002: A fast and elitist multiobjective genetic algorithm: NSGA-II. "
    "IEEE TEVC 6",
    marks={"NSGAIISampler:generation": 0},
)
