"""Sweeps whose truth is known: f, and the noise of seeds and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.noise import Observation, Parameters, Setting, space_points
from trainables.settings.space import Domain, Range

SPACE: Final[dict[str, Domain]] = {"s": Range(low=1, high=4), "m": Range(low=0, high=0.2)}
SEED_SD: Final = 0.056  # as measured for the quickstart's recipe
INTERACTION_SD: Final = 0.038


def flat(_: Parameters) -> float:
    """No effect."""
    return 0.34


def trend(effect: float) -> Callable[[Parameters], float]:
    """An effect of s, linear from one end to the other."""
    return lambda setting: 0.34 + effect * (float(setting["s"]) - 1) / 3


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Planted noise, as standard deviations in the objective's unit."""

    truth: Callable[[Parameters], float] = flat
    baseline: float = 0.34
    seed_sd: float = SEED_SD
    interaction_sd: float = INTERACTION_SD

    def value(self, setting: Setting) -> float:
        """The true f."""
        return self.baseline if isinstance(setting, str) else self.truth(setting)

    def units(
        self, settings: Sequence[Setting], seeds: Sequence[int], generator: np.random.Generator, kept: float = 1.0
    ) -> list[Observation]:
        """All settings with all seeds; a share ``kept`` of the units at random."""
        effects = generator.normal(0, self.seed_sd, len(seeds))
        return [
            Observation(setting=setting, seed=seed, value=self.value(setting) + effect + interaction)
            for setting in settings
            for seed, effect in zip(seeds, effects.tolist(), strict=True)
            for interaction in [float(generator.normal(0, self.interaction_sd))]
            if generator.random() < kept
        ]


def scattered(count: int, generator: np.random.Generator) -> list[Setting]:
    """Points of the space, at most 64."""
    return list(space_points(SPACE, 64, int(generator.integers(2**30)))[:count])


def with_images(
    settings: Sequence[Setting], seeds: Sequence[int], images: int, generator: np.random.Generator, easy: float = 3.0
) -> list[Observation]:
    """Outcomes on images that are easy or difficult for all units."""
    logits = generator.normal(0, easy, images)
    units = [(setting, seed, generator.normal(-0.8, 0.3)) for setting in settings for seed in seeds]
    outcomes = [generator.random(images) < 1 / (1 + np.exp(-logits - logit)) for _, _, logit in units]
    return [
        Observation(setting=setting, seed=seed, value=float(right.mean()), outcomes=right)
        for (setting, seed, _), right in zip(units, outcomes, strict=True)
    ]
