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
    """Cross entropy of scaled cosines between features and class weights, the true class's angle raised by m.

    The weights are the loss's own. The logits of predictions and attacks are s times the cosines, without the margin;
    cross entropy on them saturates, but not in the views ``normalized`` and ``rescaled``.

    The authors' embedding ends with a batch norm (section 3.1). It is left out, as other losses have none either.

    Args:
        s: Scale of the cosines.
        m: Margin in radians; with 0 it is cross entropy of the scaled cosines.
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
