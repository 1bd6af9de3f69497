"""Center loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.losses import Loss
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn


@register("center")
@dataclass(frozen=True, kw_only=True)
class CenterLoss(Loss):
    """Cross entropy plus weight / 2 times the squared distance of the features to the centre of their class.

    The centres are no parameters of the optimiser: in every training step, each moves towards the features of its class
    in the batch by the share ``rate``, n / (1 + n) of the way to their mean for n images. The reference implementation
    (ydwen/caffe-face) takes this step as a gradient instead, with momentum 0.9 and the learning rate 0.01 of its SGD.
    Neither multiplies it by ``weight``.

    Args:
        weight: Of the distance; with 0 it is plain cross entropy.
        rate: How far the centres move in a step, in (0, 1].
    """

    # The reference implementation's weight on MNIST; the paper's rate (its Figure 5).
    weight: float = searched(0.01, Range(low=0, high=1, low_exclusive=True))
    rate: float = 0.5

    source: ClassVar[str] = (
        'Wen, Zhang, Li and Qiao 2016, "A discriminative feature learning approach for deep face recognition", '
        "section 3.2, Eq. 2-5 and algorithm 1"
    )
    uses_features: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate must be in (0, 1], got {self.rate:g}; leave it out for 0.5")

    def build(self, features: int | None, classes: int) -> nn.Module:
        from trainables.losses._centers import MovingCenters

        assert features is not None
        return MovingCenters(features, classes, self.weight, self.rate)
