"""How large a generation of a genetic sampler is."""

from __future__ import annotations

import math
from typing import Final

from search.config.schema import SweepConfig

_SMALLEST: Final = 8
_LARGEST: Final = 50


def planned_settings(config: SweepConfig) -> int:
    """How many settings the budget is meant for; each is trained with ``train.replicates`` seeds."""
    return math.ceil(config.budget / config.train.replicates)


def population_size(settings: int) -> int:
    """Settings in a generation of NSGA-II and NSGA-III.

    Twice the square root of the planned settings, between 8 and 50: a search of 24 settings has two and a half
    generations, one of 100 has five, and from 625 on the population is Optuna's default. With that default a search of
    fewer than 50 settings would never leave its first generation, which is random.

    Args:
        settings: Settings of the whole search, at least 1.
    """
    return min(max(round(2 * math.sqrt(settings)), _SMALLEST), _LARGEST)
