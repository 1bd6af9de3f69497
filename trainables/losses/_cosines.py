"""The module of the ArcFace loss; in a file of its own, because it needs torch."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from trainables.logits import normalize_logits
from trainables.losses.cross_entropy import cross_entropy

# Keeps the derivative of the arc cosine finite; fp32 can represent 1 - 1e-6.
_GAP: Final = 1e-6


class AngularMargin(nn.Module):
    """Holds the class weights, (k, d).

    They are initialised orthogonally, because training sometimes stalls from random directions. Their length is that of
    standard normal weights, the initialisation of pytorch-metric-learning.

    If angle + margin exceeds pi, the cosine would rise again. The true class's logit is then s (cos - m sin m), as in
    the authors' code and in pytorch-metric-learning.
    """

    def __init__(self, features: int, classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        weight = torch.empty(classes, features)
        self.weight = nn.Parameter(nn.init.orthogonal_(weight, gain=math.sqrt(features)))

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
        return normalize_logits(features) @ normalize_logits(self.weight).t()
