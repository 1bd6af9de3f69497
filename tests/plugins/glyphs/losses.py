"""A loss with learnable class prototypes in feature space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.losses import Baseline, Loss
from trainables.settings.space import Range, searched


class Prototypes(nn.Module):
    """Cross entropy plus the squared distance of the features to the learned prototype of their class.

    Args:
        features: Width of the features.
        classes: Number of classes.
        pull: Weight of the distance.
    """

    def __init__(self, features: int, classes: int, pull: float) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, features))
        self.pull = pull

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch, a scalar."""
        distance = (features - self.prototypes[labels]).square().mean()
        return F.cross_entropy(logits, labels) + self.pull * distance


@dataclass(frozen=True, kw_only=True)
class PrototypeLoss(Loss):
    """Cross entropy with learnable prototypes.

    Args:
        pull: Weight of the distance to the prototypes.
    """

    source: ClassVar[str] = "made up for the tests"
    uses_features: ClassVar[bool] = True
    baselines: ClassVar[tuple[Baseline, ...]] = (Baseline("cross-entropy", {}, "plain cross entropy"),)

    pull: float = searched(0.1, Range(low=0.0, high=1.0))

    def build(self, features: int | None, classes: int) -> nn.Module:
        """The prototypes of one replicate."""
        assert features is not None
        return Prototypes(features, classes, self.pull)
