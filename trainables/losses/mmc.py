"""Max-Mahalanobis center (MMC) loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from trainables.losses import Baseline, Loss
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn


@register("mmc")
@dataclass(frozen=True, kw_only=True)
class MMC(Loss):
    """The squared distance of the features to the fixed centre of their class; the centres form a simplex.

    The features first pass through a linear layer that belongs to the loss, because after a ReLU they could not reach
    the simplex. Predictions and attacks see the negative squared distances to all centres as logits.

    Args:
        norm: The centres' distance from the origin, the authors' C_MM.
        width: Outputs of the linear layer; a simplex of k centres needs at least k - 1.
        training: ``center``: the squared distance; ``softmax``: cross entropy of the logits on the same centres.
    """

    # The reference implementation, P2333/Max-Mahalanobis-Training, which calls the softmax version MMLDA.
    norm: float = searched(10.0, Range(low=1, high=100, log=True))
    width: int = 64
    training: Literal["center", "softmax"] = "center"

    source: ClassVar[str] = (
        'Pang, Xu, Dong, Du, Chen and Zhu 2020, "Rethinking softmax cross-entropy loss for adversarial robustness"; '
        'the centres: Pang, Du and Zhu 2018, "Max-Mahalanobis linear discriminant analysis networks"'
    )
    uses_features: ClassVar[bool] = True
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("cross-entropy", {}, "plain cross entropy"),
        Baseline("mmc", {"training": "softmax"}, "cross entropy on the same centres"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}; leave it out for 64")

    def check(self, classes: int) -> None:
        if self.width < classes - 1:
            raise ValueError(
                f"loss.width must be at least {classes - 1} for {classes} classes, got {self.width}; raise it"
            )

    def build(self, features: int | None, classes: int) -> nn.Module:
        from trainables.losses._centers import MaxMahalanobis

        assert features is not None
        self.check(classes)
        return MaxMahalanobis(features, classes, self.norm, self.width, softmax=self.training == "softmax")
