"""The module of the ArcFace loss; apart from its settings, because it needs torch."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.logits import normalize_logits
from trainables.losses.cross_entropy import cross_entropy

# Keeps the derivative of the arc cosine finite; 1 - 1e-6 is a number of its own in fp32.
_GAP: Final = 1e-6


class AngularMargin(nn.Module):
    """Holds the class weights, (k, d), and the features' running mean and variance, (d,).

    Where angle + margin exceeds pi, the cosine would rise again: there the true class's logit is s (cos - m sin m), as
    in the authors' code and in pytorch-metric-learning.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.randn(classes, features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def head(self, features: Tensor) -> Tensor:
        """s times the cosine of the angle between features (n, d) and each class's weights, (n, k)."""
        return self.scale * self._cosines(features)

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        del logits
        cosines, index = self._cosines(features), labels.unsqueeze(1)
        true = cosines.gather(1, index).clamp(-1 + _GAP, 1 - _GAP)
        angle = true.acos() + self.margin
        shifted = torch.where(angle <= math.pi, angle.cos(), true - self.margin * math.sin(self.margin))
        return cross_entropy(self.scale * cosines.scatter(1, index, shifted), labels)

    def _cosines(self, features: Tensor) -> Tensor:
        batch = self.training and len(features) > 1  # a single image has no variance
        embedding = F.batch_norm(features, self.mean, self.variance, training=batch)
        return normalize_logits(embedding) @ normalize_logits(self.weight).t()
