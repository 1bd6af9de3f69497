"""How much an audit does, and the thresholds of its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainables.settings import AUDITED_IMAGES

# How far a number may lie above a stronger evaluation's. A gap counts if the lower end of its exact 95 % interval is
# larger, and if it is more than chance between pairs (McNemar, 5 %). Frozen like those below: every further attack
# breaks an image or two, and without a tolerance enough images would condemn every number.
TOLERANCE: Final = 0.01
SIGNIFICANCE: Final = 0.05

# AutoAttack's own (Croce and Hein 2020; ``checks.py`` of the authors' code).
SQUARE_GAP: Final = 0.002
RANDOMNESS: Final = 1e-4
PROBABILITIES: Final = 1e-5
EVALUATIONS: Final = 5

# Pintor et al. 2022, indicator I4, as in the authors' code: the loss of an attack, scaled to [0, 1], must not move by
# more than STILL_MOVING over the last LAST_STEPS steps.
STILL_MOVING: Final = 0.05
LAST_STEPS: Final = 10

# Zimmermann et al. 2022: an evaluation that finds fewer of the planted adversarial examples is not trustworthy.
PLANTED_FOUND: Final = 0.95

# Ours, frozen on the calibration cases of ``tests/benchmarks/audit_rates.py``.
MOVING_SHARE: Final = 0.25  # of the images still standing, whose loss may still move
MISLED_SHARE: Final = 0.1  # of the images, whose loss may rise by less than half of what the gradient promises
LARGE_RADIUS_LEFT: Final = 0.02  # of the images, which may survive a radius that reaches plain grey


@dataclass(frozen=True)
class Profile:
    """How much an audit does.

    Args:
        name: The name in verdicts.
        images: The fewest images that it needs.
        steps: APGD's steps, on each view and towards each target.
        targets: How many of the likeliest wrong classes are targeted.
        queries: Square's queries, for each image that the white-box attacks leave.
        draws: Random points of the ball, for each of those images.
        fab: Whether FAB runs too, which completes AutoAttack.
        restarts: The restarts of the longer attack, which must not find more.
        probes: Images on which accuracy is followed over the radius.
        planted: Images for which an adversarial example is planted.
    """

    name: str
    images: int
    steps: int
    targets: int
    queries: int
    draws: int
    fab: bool
    restarts: int
    probes: int
    planted: int


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
