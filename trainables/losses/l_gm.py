"""Large-margin Gaussian mixture (L-GM) loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.losses import Baseline, Loss
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn


@register("l-gm")
@dataclass(frozen=True, kw_only=True)
class LGM(Loss):
    """Classifies by Gaussians around learned means, with a margin and a likelihood term.

    Let d_k be half the squared distance of the features to the mean of class k. The loss is the cross entropy of the
    logits -d_k, with that of the true class multiplied by 1 + alpha, plus ``weight`` times d of the true class. All
    covariances are the identity and all classes equally likely, as in the authors' code (WeitaoVan/L-GM-loss).
    Predictions and attacks see -d_k as logits, without the margin.

    The means have the model's learning rate, as in the authors' TensorFlow demo. In their Caffe code they learn twice
    as fast, and alpha rises from 0.1 to 0.3 during the training.

    Args:
        alpha: The margin.
        weight: The weight of the likelihood term, the authors' lambda.
    """

    # The authors' TensorFlow demo, on CIFAR-100.
    alpha: float = searched(0.1, Range(low=0, high=1, low_exclusive=True))
    weight: float = searched(0.01, Range(low=0, high=1, low_exclusive=True))

    source: ClassVar[str] = (
        'Wan, Zhong, Li and Chen 2018, "Rethinking feature distribution for loss functions in image classification", '
        "without learned covariances"
    )
    uses_features: ClassVar[bool] = True
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("cross-entropy", {}, "plain cross entropy"),
        Baseline("l-gm", {"alpha": 0.0, "weight": 0.0}, "Gaussian mixture without margin and likelihood term"),
    )

    def build(self, features: int | None, classes: int) -> nn.Module:
        from trainables.losses._centers import GaussianMixture

        assert features is not None
        return GaussianMixture(features, classes, self.alpha, self.weight)
