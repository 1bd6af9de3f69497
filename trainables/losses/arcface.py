"""Additive angular margin (ArcFace) loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.losses import Baseline, Loss
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn


@register("arcface")
@dataclass(frozen=True, kw_only=True)
class ArcFace(Loss):
    """Cross entropy of scaled cosines between features and class weights, with m added to the true class's angle.

    The weights belong to the loss. Predictions and attacks see s times the cosines as logits, without the margin. Cross
    entropy on these saturates, except in the views ``normalized`` and ``rescaled``.

    The batch norm at the end of the authors' embedding (section 3.1) is left out, because other losses have none.

    Args:
        s: Scale of the cosines.
        m: Margin in radians; 0 gives cross entropy of the scaled cosines.
    """

    s: float = searched(64.0, Range(low=1, high=128, log=True))
    m: float = searched(0.5, Range(low=0, high=1, low_exclusive=True))

    source: ClassVar[str] = (
        'Deng, Guo, Xue and Zafeiriou 2019, "ArcFace: Additive angular margin loss for deep face recognition", Eq. 3'
    )
    uses_features: ClassVar[bool] = True
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("cross-entropy", {}, "plain cross entropy"),
        Baseline("arcface", {"m": 0.0}, "scaled cosines without margin"),
    )

    def build(self, features: int | None, classes: int) -> nn.Module:
        from trainables.losses._cosines import AngularMargin

        assert features is not None
        return AngularMargin(features, classes, self.s, self.m)
