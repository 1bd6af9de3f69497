"""Where attacks start."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.attacks.engine.batch import Batch


def noise(batch: Batch, rng: np.random.Generator) -> Tensor:
    """Random changes of norm at most 1 in the batch's norm, (b, c, h, w).

    An image's change depends on the generator and the image's ``index`` alone.
    """
    draw = random_starts if batch.ball.norm == "l2" else uniform_starts
    draws = draw(int(batch.index.max()) + 1, batch.clean[0].numel(), rng)
    return torch.from_numpy(draws).to(batch.clean.device)[batch.index].view_as(batch.clean)


def random_starts(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points with a uniform direction and a length uniform in [0, 1], fp32 (count, dimensions).

    The first rows are the same for any count.
    """
    length = rng.spawn(1)[0].random((count, 1), dtype=np.float32)
    direction = rng.standard_normal((count, dimensions), dtype=np.float32)
    direction *= length / np.linalg.norm(direction, axis=1, keepdims=True)
    return direction


def uniform_starts(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points uniform in the cube [-1, 1]^d, fp32 (count, dimensions); the first rows are the same for any count."""
    return rng.random((count, dimensions), dtype=np.float32) * 2 - 1
