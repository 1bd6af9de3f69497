"""The ball around each clean image that an attack must stay in, cut by the pixel box [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from trainables.settings.threat import Norm

# An image counts as inside up to this share beyond the radius, because projections round in fp32.
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Ball:
    """All images within ``radius`` of a clean one.

    Args:
        radius: Above 0, in pixel units; may be infinite.
        norm: ``l2`` or ``linf``.
    """

    radius: float
    norm: Norm = "l2"

    def size(self, change: Tensor) -> Tensor:
        """The norm of each change (n, c, h, w), shape (n, 1, 1, 1)."""
        order = 2 if self.norm == "l2" else torch.inf
        size: Tensor = torch.linalg.vector_norm(change, order, dim=(1, 2, 3), keepdim=True)
        return size

    def distance(self, images: Tensor, clean: Tensor) -> Tensor:
        """The distance of each image (n, c, h, w) from the clean one, shape (n,)."""
        return self.size(images - clean).flatten()

    def holds(self, distance: Tensor) -> Tensor:
        """Whether each distance lies inside, bool; NaN does not."""
        return distance <= self.radius * (1 + TOLERANCE)

    def project(self, images: Tensor, clean: Tensor) -> Tensor:
        """Moves images into the ball around the clean ones, then into the pixel box.

        Clipping moves every pixel towards a clean image that lies in the box, so it never leaves the ball. An image
        that is not finite goes back to the clean one.

        Args:
            images: (n, c, h, w).
            clean: (n, c, h, w), in [0, 1].
        """
        change = images - clean
        size = self.size(change)
        if self.norm == "l2":
            change.mul_((self.radius / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_max(1.0))
        else:
            change.clamp_(-self.radius, self.radius)
        finite = size.isfinite()
        if not finite.all():
            change = torch.where(finite, change, torch.zeros_like(change))
        return change.add_(clean).clamp_(0.0, 1.0)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit norm in which a linear function with this gradient climbs most, (n, c, h, w).

        Where the gradient is 0, so is the direction.
        """
        if self.norm == "linf":
            return gradient.sign()
        return gradient / self.size(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
