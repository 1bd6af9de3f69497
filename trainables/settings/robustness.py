"""What robust accuracy means: attacks, views and radii."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from trainables.attacks.apgd import APGD
from trainables.attacks.engine.attack import Attack
from trainables.attacks.fmn import FMN
from trainables.metrics import under_attack
from trainables.registry import check_fields
from trainables.settings.checks import count
from trainables.settings.threat import Norm, View

# The fewest images that an audit needs, by its profile (``trainables.audit``); a stronger profile needs more.
AUDITED_IMAGES: Final[Mapping[str, int]] = {"quick": 500, "reference": 1000}


@dataclass(frozen=True, kw_only=True)
class RobustnessSettings:
    """What robust accuracy means: the per-image worst case over ``attacks`` and ``views`` within ``epsilon``.

    Args:
        attacks: The attacks.
        norm: The threat model: ``l2`` or ``linf`` balls on pixels in [0, 1].
        epsilon: Radius of the ball, in the unit set by ``eps_convention``, or several: robust accuracy is that at the
            first, and is reported at each.
        eps_convention: ``l2``: epsilon is the radius; ``rms``: the radius is epsilon * sqrt(d) for d values per image
            (L2 balls only).
        views: The logits that attacks see: ``normalized`` f = z / ||z||, ``raw`` z, or ``rescaled``: z times the
            constant that gives the validation images' logits a mean norm of 10.
        images: How many validation images are attacked, starting with the first (every prefix is stratified).
        batch_size: Images per attack step.
        gate: ``audit``: every trial of a sweep has a quick audit after its evaluation (which takes three times as
            long as the evaluation), and the sampler gets the verified number.
    """

    attacks: tuple[Attack, ...] = (
        APGD(steps=50),
        FMN(remaining=True),
        APGD(target="likeliest", steps=50, remaining=True),
    )
    norm: Norm = "l2"
    epsilon: float | tuple[float, ...] = 1.5
    eps_convention: Literal["l2", "rms"] = "l2"
    views: tuple[View, ...] = ("normalized", "raw")
    images: int = count(500)
    batch_size: int = count(128)
    gate: Literal["audit"] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_attacks()
        self._check_epsilons()

    def _check_attacks(self) -> None:
        if not self.views:
            raise ValueError("views must name at least one view, got []; write [normalized, raw]")
        if len(set(self.views)) < len(self.views):
            raise ValueError(f"views must differ from each other, got {list(self.views)}; remove one")
        if not self.attacks:
            raise ValueError("attacks must name at least one attack, got []; add {name: pgd}")
        labels = [attack.label for attack in self.attacks]
        if self.attacks[0].remaining:
            raise ValueError(
                f"attacks[0].remaining must be false, got true for {labels[0]}; nothing was attacked before it"
            )
        for i, attack in enumerate(self.attacks):
            if labels.count(attack.label) > 1:
                raise ValueError(f"attacks must differ from each other, got {attack.label} twice; remove one")
            if attack.views is not None and not (attack.views and set(attack.views) <= set(self.views)):
                raise ValueError(
                    f"attacks[{i}].views must be some of the views {', '.join(self.views)}, "
                    f"got {list(attack.views)}; leave it out for all of them"
                )
            if self.norm not in attack.norms:
                raise ValueError(
                    f"norm must be {' or '.join(attack.norms)} for {attack.name}, got {self.norm}; remove the attack"
                )

    def _check_epsilons(self) -> None:
        if self.norm != "l2" and self.eps_convention != "l2":
            raise ValueError(
                f"eps_convention must be left out for {self.norm} balls, got {self.eps_convention}; remove it"
            )
        if not self.epsilons:
            raise ValueError("epsilon must name at least one radius, got []; 1.5 is usual for L2 on 28x28 digits")
        for epsilon in self.epsilons:
            if not (math.isfinite(epsilon) and epsilon > 0):
                raise ValueError(f"epsilon must be above 0, got {epsilon:g}; 1.5 is usual for L2 on 28x28 digits")
            if self.norm == "linf" and epsilon > 1:
                raise ValueError(
                    f"epsilon must be at most 1 for linf balls, got {epsilon:g}; "
                    "pixels are in [0, 1], so write 8/255 as 0.0314"
                )
        if len(set(self.epsilons)) < len(self.epsilons):
            raise ValueError(f"epsilon must not name a radius twice, got {list(self.epsilons)}; remove one")

    @property
    def accuracy_names(self) -> list[str]:
        """The names of the accuracies of every attack that has its own."""
        return [
            name
            for attack in self.attacks
            if not attack.remaining
            for name in under_attack(attack.label, self.views_of(attack))
        ]

    def views_of(self, attack: Attack) -> tuple[View, ...]:
        """The views that one of the attacks sees, in the order of ``views``."""
        return tuple(view for view in self.views if attack.views is None or view in attack.views)

    @property
    def epsilons(self) -> tuple[float, ...]:
        """The radii as configured; the objective is measured at the first."""
        return self.epsilon if isinstance(self.epsilon, tuple) else (self.epsilon,)

    def radii(self, values: int) -> tuple[float, ...]:
        """The radii in pixel units for images of ``values`` numbers (channels * height * width)."""
        unit = math.sqrt(values) if self.eps_convention == "rms" else 1.0
        return tuple(epsilon * unit for epsilon in self.epsilons)
