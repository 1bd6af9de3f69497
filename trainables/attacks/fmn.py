"""The fast minimum-norm attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.attacks.engine.norm_search import NormSearch, Search
from trainables.registry import register

if TYPE_CHECKING:
    from torch import Tensor

LAST_GAMMA: Final = 0.001  # the share by which a ball changes at the end of a cosine schedule
TINY: Final = 1e-30  # far below any relevant norm, and a normal number in fp32


@register("fmn")
@dataclass(frozen=True, kw_only=True)
class FMN(NormSearch):
    """Gradient steps on the margin, each followed by a projection onto a ball whose radius adapts.

    If the image is misclassified, its ball shrinks by a share, to below the nearest misclassified point. If not, it
    grows by that share. Until the image is first misclassified, it also grows by the distance to the linearised
    boundary.

    In the paper the first radii are the distance of the current image plus that to the boundary. Clipping to the pixel
    range removes a part of each step, so that such balls stop growing on dark images: they left 115 of 300 digits
    correctly classified on a LeNet-5 trained with cross entropy.
    """

    source: ClassVar[str] = (
        'Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints"'
    )

    def climb(self, logits: Tensor, labels: Tensor) -> Tensor:
        from trainables.attacks.engine.margins import margin

        return margin(logits, labels)

    def move(self, search: Search, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        clean, norm = search.batch.clean, search.batch.ball.norm
        gamma = LAST_GAMMA + (self.gamma - LAST_GAMMA) * search.progress
        l1, l2 = (torch.linalg.vector_norm(gradient, order, dim=(1, 2, 3), keepdim=True) for order in (1, 2))
        to_boundary = torch.where(l2 > 0, loss.abs() / (l2 if norm == "l2" else l1), torch.inf)
        grown = search.radius + torch.where(search.nearest.isfinite(), 0.0, to_boundary)
        shrunk = torch.minimum(search.radius * (1 - gamma), search.nearest)
        radius = torch.where(search.wrong, shrunk, grown * (1 + gamma))
        radius = torch.minimum(radius, search.farthest)
        change = search.images + search.length * gradient / l2.clamp_min(TINY) - clean
        if norm == "l2":
            size = torch.linalg.vector_norm(change, 2, dim=(1, 2, 3), keepdim=True)
            return clean + change * (radius / size.clamp_min(TINY)).clamp_max(1.0), radius
        return clean + change.clamp(-radius, radius), radius
