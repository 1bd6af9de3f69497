"""The decoupled direction and norm attack."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.attacks.engine.attack import Batch, MinimumNormAttack, count, positive
from trainables.registry import register
from trainables.settings.threat import Norm

if TYPE_CHECKING:
    from trainables.attacks.engine.victim import Victim

# The norm of the first change, and the lengths of the first and the last step, in pixel units.
FIRST_NORM: Final = 1.0
FIRST_STEP: Final = 1.0
LAST_STEP: Final = 0.01


@register("ddn")
@dataclass(frozen=True, kw_only=True)
class DDN(MinimumNormAttack):
    """Steps up the loss, each followed by a projection onto a sphere whose radius the last verdict has changed.

    The sphere around the clean image shrinks by the share ``gamma`` if the image is misclassified and grows by it if
    not, up to the farthest corner of the pixel box. The steps' length falls along a cosine. Images are not quantised.
    Every iterate is judged, and the nearest misclassified one counts; no image leaves before the last step, for none is
    known to have reached its smallest norm. Cross entropy is climbed as log odds, which do not underflow on confident
    models. An image whose gradient is 0 stays where it is.
    """

    source: ClassVar[str] = (
        'Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and '
        'defenses", algorithm 1'
    )
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    shown: ClassVar[tuple[str, ...]] = ("steps",)

    steps: int = count(100)
    gamma: float = positive(0.05, most=1.0)

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        import torch

        from trainables.attacks.engine.margins import log_odds_against

        del seed  # nothing is drawn
        ball, parts = batch.ball, batch.split(batch_size)
        for done, part in enumerate(parts):
            images = nearest = clean = part.clean
            distance = torch.full_like(clean[:, 0, 0, 0], torch.inf)
            farthest = ball.size(torch.maximum(clean, 1 - clean))
            radius = torch.full_like(farthest, FIRST_NORM)
            for step in range(self.steps + 1):
                move = step < self.steps
                images = images.detach().requires_grad_(move)
                with torch.set_grad_enabled(move):
                    raw = victim.logits(images)
                    if move:
                        loss = log_odds_against(victim.view(raw), part.labels).sum()
                        (gradient,) = torch.autograd.grad(loss, images)
                images, raw = images.detach(), raw.detach()
                wrong = ~victim.correct(images, raw, part.labels)
                far = ball.distance(images, clean)
                nearer = wrong & (far < distance)
                distance = torch.where(nearer, far, distance)
                nearest = torch.where(nearer.view(-1, 1, 1, 1), images, nearest)
                victim.progress((done + (step + 1) / (self.steps + 1)) / len(parts))
                if move:
                    length = LAST_STEP + (FIRST_STEP - LAST_STEP) * (1 + math.cos(math.pi * step / self.steps)) / 2
                    change = images + length * ball.steepest(gradient) - clean
                    factor = torch.where(wrong, 1 - self.gamma, 1 + self.gamma).view(-1, 1, 1, 1)
                    radius = torch.minimum(radius * factor, farthest)
                    images = (clean + radius * ball.steepest(change)).clamp(0.0, 1.0)
            yield replace(part, images=nearest).take(distance.isfinite())
