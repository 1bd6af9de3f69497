"""The decoupled direction and norm attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.attacks.engine.norm_search import NormSearch, Search
from trainables.registry import register
from trainables.settings.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor


@register("ddn")
@dataclass(frozen=True, kw_only=True)
class DDN(NormSearch):
    """Steps up the loss, each followed by a projection onto a sphere whose radius the last verdict has changed.

    The sphere around the clean image shrinks by the share ``gamma`` if the image is misclassified and grows by it if
    not, up to the farthest corner of the pixel box. Images are not quantised. Cross entropy is climbed as log odds,
    which do not underflow on confident models.
    """

    source: ClassVar[str] = (
        'Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and '
        'defenses"'
    )
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    first_radius: ClassVar[float] = 1.0

    def climb(self, logits: Tensor, labels: Tensor) -> Tensor:
        from trainables.attacks.engine.margins import log_odds_against

        return log_odds_against(logits, labels)

    def move(self, search: Search, loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        del loss
        ball, clean = search.batch.ball, search.batch.clean
        change = search.images + search.length * ball.steepest(gradient) - clean
        factor = torch.where(search.wrong, 1 - self.gamma, 1 + self.gamma)
        radius = torch.minimum(search.radius * factor, search.farthest)
        return clean + radius * ball.steepest(change), radius
