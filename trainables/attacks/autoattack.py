"""AutoAttack: four attacks, one after another, each on what still stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.attacks.apgd import APGD
from trainables.attacks.engine.attack import Attack, Progress, attack_seed
from trainables.attacks.fab import FAB
from trainables.attacks.square import Square
from trainables.registry import register

if TYPE_CHECKING:
    from trainables.attacks.engine.batch import Batch
    from trainables.attacks.engine.victim import Victim

# What the targeted difference of logits ratio needs.
LEAST_CLASSES: Final = 4


@dataclass(frozen=True)
class Part:
    """One attack of the cascade.

    Args:
        name: Its name in the cascade, from which its seed derives.
        attack: The attack.
        passes: What an image costs that stands to the end, forward and backward: its share of the progress.
    """

    name: str
    attack: Attack
    passes: int


@register("autoattack")
@dataclass(frozen=True, kw_only=True)
class AutoAttack(Attack):
    """APGD on cross entropy, APGD and FAB towards the nine likeliest wrong classes, and Square, as a cascade.

    With fewer than ten classes, all wrong ones are targeted.
    """

    source: ClassVar[str] = (
        'Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse '
        "parameter-free attacks\", section 6, and the authors' code's version standard"
    )

    def parts(self) -> tuple[Part, ...]:
        """The attacks in their order, with the authors' settings."""
        return (
            Part("apgd-ce", APGD(), 2 * 100),
            Part("apgd-t", APGD(loss="dlr", target="likeliest"), 2 * 100 * 9),
            Part("fab-t", FAB(target="likeliest"), 3 * 100 * 9),
            Part("square", Square(), 5000),
        )

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Runs one part after another."""
        import torch

        classes = batch.clean_logits.shape[1]
        if classes < LEAST_CLASSES:
            raise ValueError(
                f"attacks must not name autoattack for fewer than {LEAST_CLASSES} classes, got {classes}; "
                "choose apgd with the loss ce"
            )
        report = victim.progress
        parts = self.parts()
        total = sum(part.passes for part in parts)
        done = 0
        for part in parts:
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
