"""AutoAttack: four attacks, one after another, each on what still stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from trainables.attacks.apgd import APGD
from trainables.attacks.engine.attack import Attack, Batch, attack_seed, part_of
from trainables.attacks.fab import FAB
from trainables.attacks.square import Square
from trainables.registry import register

if TYPE_CHECKING:
    from trainables.attacks.engine.victim import Victim

LEAST_CLASSES: Final = 4  # for the targeted difference of logits ratio


class Part(NamedTuple):
    """One attack of the cascade, and the passes of an image that stands to the end, for the share of the progress."""

    name: str  # its seed derives from it
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
        "parameter-free attacks\", and the authors' code's version standard"
    )

    def parts(self) -> tuple[Part, ...]:
        """The attacks in their order, with the authors' settings."""
        return (
            Part("apgd-ce", APGD(), 2 * 100),
            Part("apgd-t", APGD(loss="dlr", target="likeliest"), 2 * 100 * 9),
            Part("fab-t", FAB(target="likeliest"), 3 * 100 * 9),
            Part("square", Square(), 5000),
        )

    @property
    def passes(self) -> int:
        return sum(part.passes for part in self.parts())

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        import torch

        classes = batch.clean_logits.shape[1]
        if classes < LEAST_CLASSES:
            raise ValueError(
                f"attacks must not name autoattack for fewer than {LEAST_CLASSES} classes, got {classes}; "
                "choose apgd with the loss ce"
            )
        report, done = victim.progress, 0
        total = sum(part.passes for part in self.parts())
        for part in self.parts():
            victim.progress = part_of(report, done / total, part.passes / total)
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
