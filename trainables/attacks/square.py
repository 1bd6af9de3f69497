"""The Square attack."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.attacks.base import Batch, QueryAttack
from trainables.settings import Norm

# After these candidates the windows' area is halved again; made for 10,000 of them and kept whatever their number is.
HALVINGS: Final = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

# Square tiles of a fifth of the image's height fill the L2 start.
TILES: Final = 5

# The smallest window in L2, which has to hold a hump and a dip.
LEAST_WINDOW: Final = 3

Window = tuple[Tensor, slice, Tensor, Tensor]


class Square(QueryAttack):
    """Random search that changes one square window at a time: its sign (Linf), or how much of the change it gets (L2).

    The first query asks about a start full of structure: vertical stripes of +-radius (Linf), tiles of humps and dips
    (L2). From then on a candidate becomes the image where the margin of the true logit over the best other one has
    fallen. Every image draws its own windows; they reach all four edges, as in the paper (in the reference code they
    never touch the lower and the right one).

    Args:
        queries: Candidates of each image, the start among them, at least 1.
        share: Of the pixels that the first windows cover, in (0, 1].

    Source:
        Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via random search",
        algorithms 1 to 3; schedule and window sizes as in AutoAttack (Croce and Hein 2020), ``resc_schedule`` off.
    """

    unit_free = True

    def __init__(self, queries: int = 5000, share: float = 0.8) -> None:
        super().__init__(queries)
        self.share = share

    def propose(self, batch: Batch, query: int, rng: np.random.Generator) -> Tensor:
        """The start; later the images with one window changed."""
        l2 = batch.ball.norm == "l2"
        if query == 0:
            return batch.clean + batch.radius * (tiles(batch, rng) if l2 else stripes(batch, rng))
        channels, height, width = batch.clean.shape[1:]
        size = window_size(query - 1, self.share, height, width, batch.ball.norm)
        if l2:
            return batch.clean + _mass_moved(batch, size, rng)
        draws = uniform(batch, 2 + channels, rng)
        window = _window(batch, size, draws[:, :2])
        candidates = batch.images.clone(memory_format=torch.preserve_format)
        candidates[window] = batch.clean[window] + batch.radius * _signs(batch, draws[:, 2:])[:, None, None]
        return candidates

    def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
        """The start, then every candidate whose margin is smaller."""
        if query == 0:
            return torch.ones_like(batch.labels, dtype=torch.bool)
        return margin(logits, batch.labels) < margin(batch.memory["logits"], batch.labels)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the true logit is above the best other one, (b,), for logits (b, k)."""
    true = labels.unsqueeze(1)
    return logits.gather(1, true).squeeze(1) - logits.scatter(1, true, -torch.inf).amax(1)


def window_size(candidate: int, share: float, height: int, width: int, norm: Norm) -> int:
    """The side of a candidate's window, in pixels.

    Args:
        candidate: From 0, the start not counted.
        share: Of the pixels that the first windows cover.
        height: Of the images.
        width: Of the images.
        norm: Windows are odd and at least `LEAST_WINDOW` in ``l2``, where the image has room for it.
    """
    size = round(math.sqrt(share / 2 ** bisect_left(HALVINGS, candidate) * height * width))
    room = min(height, width)
    if norm == "linf":
        return min(max(size, 1), room)
    size = max(size, LEAST_WINDOW)
    return min(size + 1 - size % 2, room - 1 + room % 2)


def stripes(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Columns of +-1, of each channel's own, (b, c, 1, w)."""
    _, channels, _, width = batch.clean.shape
    return _signs(batch, uniform(batch, channels * width, rng)).view(-1, channels, 1, width)


def tiles(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Humps and dips side by side, of random orientation and each channel's own signs, of unit norm, (b, c, h, w)."""
    _, channels, height, width = batch.clean.shape
    size = max(height // TILES, 1)
    corners = [(y, x) for y in _corners(height, size) for x in _corners(width, size)]
    draws = uniform(batch, len(corners) * (1 + channels), rng).reshape(len(batch), len(corners), 1 + channels)
    change = torch.zeros_like(batch.clean)
    for k, (y, x) in enumerate(corners):
        tile = _patterns(batch, size, draws[:, k]).permute(0, 3, 1, 2)
        change[:, :, y : y + size, x : x + size] = tile
    return batch.ball.steepest(change)


def hump_and_dip(size: int) -> Tensor:
    """A hump above a dip, of unit norm, fp32 (size, size); each a heap of ever smaller slabs."""
    return _unit(torch.cat([_heap(size // 2, size), -_heap(size - size // 2, size)]))


def _heap(height: int, width: int) -> Tensor:
    """At a (Chebyshev) distance d from the centre the sum of 1 / (k + 1)^2 over k >= d, of unit norm."""
    vertical = (torch.arange(height) - height // 2).abs()
    horizontal = (torch.arange(width) - width // 2).abs()
    slabs = 1 / torch.arange(1.0, max(height // 2, width // 2) + 2) ** 2
    return _unit(slabs.flip(0).cumsum(0).flip(0)[torch.maximum(vertical.unsqueeze(1), horizontal)])


def _unit(pattern: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(pattern)
    return pattern / length.clamp_min(torch.finfo(pattern.dtype).tiny)


_pattern = cache(hump_and_dip)


def _mass_moved(batch: Batch, size: int, rng: np.random.Generator) -> Tensor:
    """The change with the norm of two windows, and what is left of the radius, in the first of them; (b, c, h, w)."""
    channels = batch.clean.shape[1]
    draws = uniform(batch, 5 + channels, rng)
    first, second = (_window(batch, size, draws[:, k : k + 2]) for k in (0, 2))
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
    pattern = _pattern(size).to(batch.clean)
    turned = torch.from_numpy(draws[:, 0] < 0.5).to(batch.clean.device).view(-1, 1, 1)
    return torch.where(turned, pattern.T, pattern).unsqueeze(3) * _signs(batch, draws[:, 1:])[:, None, None]


def uniform(batch: Batch, numbers: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform draws in [0, 1) for each image, (b, numbers); call it once a query, or images lose their own."""
    draws: NDArray[np.float64] = rng.random((int(batch.index.max()) + 1, numbers))[batch.index.cpu().numpy()]
    return draws


def _signs(batch: Batch, draws: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.where(draws < 0.5, -1.0, 1.0)).to(batch.clean)


def _window(batch: Batch, size: int, draws: NDArray[np.float64]) -> Window:
    """Indexes a square of each image; what it picks has the shape (b, size, size, c)."""
    height, width = batch.clean.shape[2:]
    corner = torch.from_numpy(draws * (height - size + 1, width - size + 1)).long().to(batch.clean.device)
    rows, side = torch.arange(len(batch), device=corner.device), torch.arange(size, device=corner.device)
    y, x = corner[:, :1] + side, corner[:, 1:] + side
    return rows.view(-1, 1, 1), slice(None), y.unsqueeze(2), x.unsqueeze(1)


def _corners(length: int, size: int) -> range:
    """Where tiles begin along one side, centred."""
    return range(length % size // 2, length - size + 1, size)
