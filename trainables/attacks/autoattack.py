"""AutoAttack: four attacks, one after another, each on what still stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from trainables.attacks.apgd import APGD
from trainables.attacks.base import Attack, Batch, Progress, Victim, attack_seed
from trainables.attacks.torchattacks_adapter import Torchattacks

LEAST_CLASSES = 4
"""What the targeted difference of logits ratio needs."""


@dataclass(frozen=True)
class Part:
    """One attack of the cascade.

    Args:
        name: Its own in the cascade: its seed derives from it.
        attack: The attack.
        passes: What an image costs that stands to the end, forward and backward: its share of the progress.
    """

    name: str
    attack: Attack
    passes: int


def standard() -> tuple[Part, ...]:
    """The standard version's parts, at the authors' settings."""
    return (
        Part("apgd-ce", APGD("ce"), 2 * 100),
        Part("apgd-t", APGD("dlr", "likeliest"), 2 * 100 * 9),
        # torchattacks' own defaults are 10 steps, and squares that shrink sooner.
        Part("fab-t", Torchattacks("FAB", {"steps": 100, "multi_targeted": True}), 3 * 100 * 9),
        Part("square", Torchattacks("Square", {"n_queries": 5000, "resc_schedule": False}), 5000),
    )


class AutoAttack(Attack):
    """APGD on cross entropy, APGD and FAB towards the nine likeliest wrong classes, and Square, as a cascade.

    With fewer than ten classes all wrong ones are gone towards.

    Args:
        parts: The attacks in their order; None for the standard version.

    Source:
        Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", section 6, and the authors' code's version ``standard``.
    """

    def __init__(self, parts: Sequence[Part] | None = None) -> None:
        self._parts = standard() if parts is None else tuple(parts)

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Run one part after another."""
        classes = batch.clean_logits.shape[1]
        if classes < LEAST_CLASSES:
            raise ValueError(
                f"attacks must not name autoattack for fewer than {LEAST_CLASSES} classes, got {classes}; "
                "choose apgd with the loss ce"
            )
        report = victim.progress
        total = sum(part.passes for part in self._parts)
        done = 0
        for part in self._parts:
            victim.progress = partial(_share, report, done / total, part.passes / total)
            fallen = batch.index[:0]
            for broken in part.attack.run(victim, batch, seed=attack_seed(seed, part.name), batch_size=batch_size):
                yield broken
                inside = batch.ball.holds(batch.ball.distance(broken.images, broken.clean))
                fallen = torch.cat([fallen, broken.index[inside]])
            batch = batch.take(~torch.isin(batch.index, fallen))
            done += part.passes
            report(done / total)
            if not len(batch):
                break
        victim.progress = report


def _share(report: Progress, begin: float, share: float, done: float) -> None:
    report(begin + share * done)
