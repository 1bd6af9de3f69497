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

    The optimiser does not update the centres. In every training step, each centre moves towards the mean of its n
    features in the batch, by ``rate`` times n / (1 + n) of the distance. The reference implementation
    (ydwen/caffe-face) instead passes this step to SGD as a gradient, with momentum 0.9 and learning rate 0.01. Neither
    multiplies it by ``weight``.

    Args:
        weight: The weight of the distance; 0 gives plain cross entropy.
        rate: The step size of the centres, in (0, 1].
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
