"""The modules of the losses with class centres in feature space; in a file of their own, because they need torch."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.losses.cross_entropy import cross_entropy


class MovingCenters(nn.Module):
    """Center loss. It holds the centres, (k, d), and moves them in every forward pass in training mode."""

    centers: Tensor

    def __init__(self, features: int, classes: int, weight: float, rate: float) -> None:
        super().__init__()
        self.weight, self.rate = weight, rate
        bound = math.sqrt(3 / features)  # Caffe's "xavier"
        self.register_buffer("centers", torch.empty(classes, features).uniform_(-bound, bound))

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        offsets = features - self.centers[labels]
        if self.training:
            self._move(offsets.detach(), labels)
        return cross_entropy(logits, labels) + self.weight / 2 * offsets.square().sum(1).mean()

    @torch.no_grad()
    def _move(self, offsets: Tensor, labels: Tensor) -> None:
        """Moves the centres by Eq. 4 of Wen et al. 2016, with the opposite sign."""
        members = nn.functional.one_hot(labels, len(self.centers)).to(offsets)  # index_add_ is not reproducible
        self.centers += self.rate * (members.t() @ offsets) / (1 + members.sum(0)).unsqueeze(1)


class GaussianMixture(nn.Module):
    """L-GM loss. It holds the means, (k, d)."""

    def __init__(self, features: int, classes: int, alpha: float, weight: float) -> None:
        super().__init__()
        self.alpha, self.weight = alpha, weight
        self.means = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, features)))

    def head(self, features: Tensor) -> Tensor:
        """Minus half the squared distances of features (n, d) to the means, (n, k)."""
        return -squared_distances(features, self.means) / 2

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        del logits
        negative, index = self.head(features), labels.unsqueeze(1)
        true = negative.gather(1, index)
        return cross_entropy(negative.scatter(1, index, (1 + self.alpha) * true), labels) - self.weight * true.mean()


class MaxMahalanobis(nn.Module):
    """MMC loss. It holds the linear layer in front of the centres, and the centres, (k, width)."""

    centers: Tensor

    def __init__(self, features: int, classes: int, norm: float, width: int, *, softmax: bool) -> None:
        super().__init__()
        self.softmax = softmax
        self.linear = nn.Linear(features, width)
        self.register_buffer("centers", torch.from_numpy(norm * simplex(classes, width)).float())

    def head(self, features: Tensor) -> Tensor:
        """Minus the squared distances of the transformed features (n, d) to the centres, (n, k)."""
        return -squared_distances(self.linear(features), self.centers)

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        del logits
        if self.softmax:
            return cross_entropy(self.head(features), labels)
        offsets: Tensor = self.linear(features) - self.centers[labels]
        return offsets.square().sum(1).mean()


def squared_distances(features: Tensor, centers: Tensor) -> Tensor:
    """Squared distances of features (n, d) to centres (k, d), (n, k), computed from differences to limit rounding."""
    return (features.unsqueeze(1) - centers).square().sum(2)


def simplex(points: int, width: int) -> NDArray[np.float64]:
    """Unit vectors (points, width) that are as far from each other as possible: all cosines are -1 / (points - 1).

    Args:
        points: At least 2.
        width: At least points - 1.

    Source:
        Pang, Du and Zhu 2018, "Max-Mahalanobis linear discriminant analysis networks"; ``craft_MMcenters.m`` in the
        authors' code (P2333/Max-Mahalanobis-Training).
    """
    means = np.zeros((points, width))
    means[0, 0] = 1
    for i in range(1, points):
        for j in range(i):
            means[i, j] = (-1 / (points - 1) - means[i] @ means[j]) / means[j, j]
        if i < points - 1:  # the last point lies in the space of the others
            means[i, i] = math.sqrt(1 - means[i] @ means[i])
    return means
