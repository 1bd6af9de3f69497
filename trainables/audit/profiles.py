"""How much an audit does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainables.settings import AUDITED_IMAGES


@dataclass(frozen=True)
class Profile:
    """How much an audit does."""

    name: str
    images: int  # the fewest that it needs
    steps: int  # APGD's, on each view and towards each target
    targets: int  # how many of the likeliest wrong classes are targeted
    queries: int  # Square's, for each image that the white-box attacks leave
    draws: int  # random points of the ball, for each of those images
    fab: bool  # whether FAB runs too, which completes AutoAttack
    restarts: int  # of the longer attack, which must not find more
    probes: int  # images on which accuracy is followed over the radius
    planted: int  # images for which an adversarial example is planted


QUICK: Final = Profile(
    name="quick",
    images=AUDITED_IMAGES["quick"],
    steps=50,
    targets=3,
    queries=300,
    draws=200,
    fab=False,
    restarts=1,
    probes=100,
    planted=32,
)
# AutoAttack as its authors run it: 100 steps, 9 targets, 5,000 queries. Carlini et al. 2019: 10,000 random draws.
REFERENCE: Final = Profile(
    name="reference",
    images=AUDITED_IMAGES["reference"],
    steps=100,
    targets=9,
    queries=5000,
    draws=10_000,
    fab=True,
    restarts=5,
    probes=500,
    planted=128,
)
PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (QUICK, REFERENCE)}
