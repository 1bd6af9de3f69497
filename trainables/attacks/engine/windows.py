"""The Square attack's random windows, and the patterns that it fills them with."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.attacks.engine.attack import Batch

TILES: Final = 5  # in the image's height; such square tiles fill the L2 start


def stripes(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Columns of +-1, drawn for each channel, (b, c, 1, w)."""
    _, channels, _, width = batch.clean.shape
    return signs(batch, uniform(batch, channels * width, rng)).view(-1, channels, 1, width)


def tiles(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Humps and dips side by side, of random orientation and with signs per channel, of unit norm, (b, c, h, w)."""
    _, channels, height, width = batch.clean.shape
    size = max(height // TILES, 1)
    # Centred: what is left over goes to both sides.
    rows, columns = (range(length % size // 2, length - size + 1, size) for length in (height, width))
    corners = [(y, x) for y in rows for x in columns]
    draws = uniform(batch, len(corners) * (1 + channels), rng).reshape(len(batch), len(corners), 1 + channels)
    change = torch.zeros_like(batch.clean)
    for k, (y, x) in enumerate(corners):
        change[:, :, y : y + size, x : x + size] = _patterns(batch, size, draws[:, k]).permute(0, 3, 1, 2)
    return batch.ball.steepest(change)


@cache
def hump_and_dip(size: int) -> Tensor:
    """A hump above a dip, each a heap of ever smaller slabs; of unit norm, fp32 (size, size). Do not change it."""
    return _unit(torch.cat([_heap(size // 2, size), -_heap(size - size // 2, size)]))


def _heap(height: int, width: int) -> Tensor:
    """At Chebyshev distance d from the centre, the sum of 1 / (k + 1)^2 over k >= d; of unit norm."""
    vertical = (torch.arange(height) - height // 2).abs()
    horizontal = (torch.arange(width) - width // 2).abs()
    slabs = 1 / torch.arange(1.0, max(height // 2, width // 2) + 2) ** 2
    return _unit(slabs.flip(0).cumsum(0).flip(0)[torch.maximum(vertical.unsqueeze(1), horizontal)])


def _unit(pattern: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(pattern)
    return pattern / length.clamp_min(torch.finfo(pattern.dtype).tiny)


def mass_moved(batch: Batch, size: int, rng: np.random.Generator) -> Tensor:
    """The change after moving the norm of a second window, and the unused radius, into a first one; (b, c, h, w)."""
    channels = batch.clean.shape[1]
    draws = uniform(batch, 5 + channels, rng)
    first, second = (window(batch, size, draws[:, k : k + 2]) for k in (0, 2))
    change = batch.images - batch.clean
    tiny = torch.finfo(change.dtype).tiny
    left = (batch.radius**2 - batch.ball.size(change) ** 2).clamp_min(0) / channels
    inside = change[first]
    mass = inside.square().sum((1, 2), keepdim=True)
    change[first] = 0
    taken = change[second].square().sum((1, 2), keepdim=True)
    change[second] = 0
    pattern = _patterns(batch, size, draws[:, 4:]) + inside / mass.sqrt().clamp_min(tiny)
    length = pattern.square().sum((1, 2), keepdim=True).sqrt().clamp_min(tiny)
    change[first] = pattern / length * (left + mass + taken).sqrt()
    return batch.radius * batch.ball.steepest(change)


def _patterns(batch: Batch, size: int, draws: NDArray[np.float64]) -> Tensor:
    """`hump_and_dip`, turned for half the images, times a sign for each channel, (b, size, size, c)."""
    pattern = hump_and_dip(size).to(batch.clean)
    turned = torch.from_numpy(draws[:, 0] < 0.5).to(batch.clean.device).view(-1, 1, 1)
    return torch.where(turned, pattern.T, pattern).unsqueeze(3) * signs(batch, draws[:, 1:])[:, None, None]


def uniform(batch: Batch, numbers: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform draws in [0, 1) for each image, (b, numbers); once per query: those of a second depend on the batch."""
    return np.asarray(rng.random((int(batch.index.max()) + 1, numbers))[batch.index.cpu().numpy()])


def signs(batch: Batch, draws: NDArray[np.float64]) -> Tensor:
    """-1 for a draw below one half, else 1."""
    return torch.from_numpy(np.where(draws < 0.5, -1.0, 1.0)).to(batch.clean)


def window(batch: Batch, size: int, draws: NDArray[np.float64]) -> tuple[Tensor, slice, Tensor, Tensor]:
    """The index of one random square of each image; it picks values of shape (b, size, size, c)."""
    height, width = batch.clean.shape[2:]
    corner = torch.from_numpy(draws * (height - size + 1, width - size + 1)).long().to(batch.clean.device)
    rows, side = torch.arange(len(batch), device=corner.device), torch.arange(size, device=corner.device)
    y, x = corner[:, :1] + side, corner[:, 1:] + side
    return rows.view(-1, 1, 1), slice(None), y.unsqueeze(2), x.unsqueeze(1)
