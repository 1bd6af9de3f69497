"""The ball around each clean image that an attack must stay in, cut by the pixel box [0, 1]; random points of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.settings.threat import Norm

# An image counts as inside up to this share beyond the radius, because projections round in fp32.
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Ball:
    """All images within ``radius`` of a clean one: above 0, in pixel units; may be infinite."""

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
        """Moves images (n, c, h, w) into the ball around the clean ones in [0, 1], then into the pixel box.

        Clipping moves every pixel towards a clean image that lies in the box, so it never leaves the ball. An image
        that is not finite goes back to the clean one.
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
        """The unit direction in which a linear function with this gradient climbs most, (n, c, h, w); 0 where it is."""
        if self.norm == "linf":
            return gradient.sign()
        return gradient / self.size(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)

    def noise(self, clean: Tensor, index: Tensor, rng: np.random.Generator) -> Tensor:
        """Random changes of norm at most 1, (b, c, h, w); each depends on ``rng`` and the image's index alone."""
        draw = random_starts if self.norm == "l2" else uniform_starts
        draws = draw(int(index.max()) + 1, clean[0].numel(), rng)
        return torch.from_numpy(draws).to(clean.device)[index].view_as(clean)


def random_starts(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points of uniform direction and length in [0, 1], fp32 (count, dimensions); the first never depend on count."""
    length = rng.spawn(1)[0].random((count, 1), dtype=np.float32)
    direction = rng.standard_normal((count, dimensions), dtype=np.float32)
    direction *= length / np.linalg.norm(direction, axis=1, keepdims=True)
    return direction


def uniform_starts(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points uniform in the cube [-1, 1]^d, fp32 (count, dimensions); the first never depend on count."""
    return rng.random((count, dimensions), dtype=np.float32) * 2 - 1
