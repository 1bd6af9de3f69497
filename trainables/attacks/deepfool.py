"""DeepFool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.attacks.engine.attack import IterativeAttack, MinimumNormAttack
from trainables.attacks.engine.limits import count, positive
from trainables.registry import register
from trainables.settings.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.engine.batch import Batch
    from trainables.attacks.engine.victim import Victim

# How much further than to the boundary every step goes, in pixel units: a quarter of a grey level of one pixel. Where
# the pixel box undoes a part of each step, the rest of the way shrinks geometrically and never to 0, and a share of it
# (the overshoot) does not help: torchattacks, which has no such slack, left 132 of 248 images of a LeNet-5 unfooled
# after 50 steps. foolbox has 1e-4; on LeNet-5 that takes 30 % more steps to norms smaller by less than 0.2 %.
SLACK: Final = 1e-3


@register("deepfool")
@dataclass(frozen=True, kw_only=True)
class DeepFool(MinimumNormAttack, IterativeAttack):
    """Steps to the nearest boundary among the linearised ones, each a little too far, until the label is lost.

    The overshoot is cumulative, clean + (1 + overshoot) * (sum of the steps), with one difference from the paper's code
    and foolbox's: the sum is of what the pixel box left of the steps. In their sums a pixel that is pushed against the
    box keeps going, and comes back late or never; that can leave images unfooled on logits as curved as f.

    An image all of whose gradients are 0 stays where it is. The norm found is that of the first point beyond the
    boundary, not a bound: on f, whose linearisation misleads, it can be several times that on z.

    Args:
        steps: At least 1.
        candidates: Number of classes with the largest clean logits, the true one included, whose boundaries are
            considered; at least 2.
        overshoot: The share by which a step goes past the boundary, above 0.
    """

    source: ClassVar[str] = (
        'Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep neural networks", '
        "section 2.2, algorithm 2"
    )
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)

    steps: int = count(50)
    candidates: int = count(10, least=2)
    overshoot: float = positive(0.02)

    @property
    def unit_free(self) -> bool:
        return True

    @property
    def iterations(self) -> int:
        return self.steps + 1  # the last iterate is judged and not moved

    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """Judges every iterate first: a forward pass is cheap compared with a broken image's backward passes."""
        import torch

        del seed
        broken = None
        if iteration > 0:  # the clean images are classified correctly
            with torch.no_grad():
                correct = victim.logits(batch.images).argmax(1) == batch.labels
            if not correct.all():
                broken, batch = batch.take(~correct), batch.take(correct)
        if iteration < self.steps and len(batch):
            batch = replace(batch, images=self._step(victim, batch))
        return batch, broken

    def _step(self, victim: Victim, batch: Batch) -> Tensor:
        import torch

        from trainables.attacks.engine.boundary import likeliest_rivals, nearest_boundary

        rivals = likeliest_rivals(batch.clean_logits, batch.labels, self.candidates - 1)
        boundary = nearest_boundary(victim, batch.images, batch.labels, rivals, batch.ball.norm)
        length = torch.where(boundary.distance.isfinite(), boundary.distance + SLACK, 0.0).view(-1, 1, 1, 1)
        # What has been clipped is in ``images``, so the overshoot of each step adds up to the cumulative one.
        return (batch.images + (1 + self.overshoot) * length * batch.ball.steepest(boundary.normal)).clamp(0.0, 1.0)
