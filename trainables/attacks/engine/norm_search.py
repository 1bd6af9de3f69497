"""Attacks that look for the nearest misclassified image by gradient steps on a sphere or in a ball of its own size."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.attacks.engine.attack import Batch, MinimumNormAttack
from trainables.settings.checks import count, positive

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.engine.victim import Victim

# The lengths of the first and the last step, in pixel units.
FIRST_STEP: Final = 1.0
LAST_STEP: Final = 0.01


@dataclass
class Search:
    """Where the search stands for each image of a batch. Shapes (b, 1, 1, 1), but for images."""

    batch: Batch
    images: Tensor  # the current points, (b, c, h, w)
    radius: Tensor  # of the image's own sphere or ball
    farthest: Tensor  # how far a corner of the pixel box is
    wrong: Tensor  # whether the current point is misclassified, bool
    nearest: Tensor  # the distance of the nearest misclassified point so far, infinite if there is none
    progress: float  # from 1 at the first step along a cosine to 0 after the last

    @property
    def length(self) -> float:
        """Of the next step, in pixel units."""
        return LAST_STEP + (FIRST_STEP - LAST_STEP) * self.progress


@dataclass(frozen=True, kw_only=True)
class NormSearch(MinimumNormAttack):
    """Gradient steps, each followed by a projection that keeps the image about as near as the boundary is.

    Every iterate is judged, and the nearest misclassified one counts; no image leaves before the last step, for none is
    known to have reached its smallest norm. An image whose gradient is 0 stays where it is.
    """

    shown: ClassVar[tuple[str, ...]] = ("steps",)
    first_radius: ClassVar[float] = 0.0

    steps: int = count(100)  # their length falls along a cosine
    gamma: float = positive(0.05, most=1.0)  # the share by which the sphere or ball shrinks and grows

    @property
    def passes(self) -> int:
        return 2 * self.steps + 1

    @abstractmethod
    def climb(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss to climb, (b,), from the logits in the view, (b, k)."""

    @abstractmethod
    def move(self, search: Search, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The next points, (b, c, h, w), before the pixel box cuts them, and the next radii, (b, 1, 1, 1).

        ``loss`` is what ``climb`` returned at the current points, as (b, 1, 1, 1), and ``gradient`` its gradient.
        """

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        import torch

        del seed  # nothing is drawn
        ball, parts = batch.ball, batch.split(batch_size)
        for done, part in enumerate(parts):
            images = nearest = clean = part.clean
            farthest = ball.size(torch.maximum(clean, 1 - clean))
            radius = torch.full_like(farthest, self.first_radius)
            distance = torch.full_like(farthest, torch.inf)
            for step in range(self.steps + 1):
                moves = step < self.steps
                images = images.detach().requires_grad_(moves)
                with torch.set_grad_enabled(moves):
                    raw = victim.logits(images)
                    if moves:
                        loss = self.climb(victim.view(raw), part.labels)
                        (gradient,) = torch.autograd.grad(loss.sum(), images)
                images = images.detach()
                wrong = ~victim.correct(images, raw.detach(), part.labels).view(-1, 1, 1, 1)
                away = ball.size(images - clean)
                nearer = wrong & (away < distance)
                distance = torch.where(nearer, away, distance)
                nearest = torch.where(nearer, images, nearest)
                victim.progress((done + (step + 1) / (self.steps + 1)) / len(parts))
                if moves:
                    falling = (1 + math.cos(math.pi * step / self.steps)) / 2
                    search = Search(part, images, radius, farthest, wrong, distance, falling)
                    images, radius = self.move(search, loss.detach().view(-1, 1, 1, 1), gradient)
                    images = images.clamp(0.0, 1.0)
            yield replace(part, images=nearest).take(distance.flatten().isfinite())
