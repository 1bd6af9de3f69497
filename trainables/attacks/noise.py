"""Random search that learns nothing from what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.attacks.base import Attack, Batch, Victim, join
from trainables.settings import Norm


class Noise(Attack):
    """Points on the ball's surface, each drawn independently of the others and of what the model says, then clipped.

    Images that fall to it and not to an attack that follows gradients show that the gradients mislead.

    Directions are uniform in L2. In Linf signs are: of all points of the cube its corners change a linear function
    most, in the mean square three times as much as points drawn uniformly from it.

    Each image draws from a generator of its own, so that a pass can hold many draws of few images.

    Args:
        queries: Draws of each image, at least 1.

    Source:
        Carlini et al. 2019, "On evaluating adversarial robustness", on brute-force random search.
    """

    # All that it asks for are labels.
    unit_free = scale_free = True

    def __init__(self, queries: int = 1000) -> None:
        self.queries = queries

    @torch.no_grad()
    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Asks about as many draws of each image at a time as fill a pass."""
        generators = {i: np.random.default_rng([seed, i]) for i in batch.index.tolist()}
        asked = 0
        while asked < self.queries:
            draws = min(max(batch_size // len(batch), 1), self.queries - asked)
            survivors = []
            for part in batch.split(batch_size):
                candidates = _candidates(part, draws, generators)
                labels = part.labels.repeat_interleave(draws)
                correct = victim.correct(candidates, victim.logits(candidates), labels).view(len(part), draws)
                fallen = ~correct.all(1)
                if fallen.any():
                    first = torch.arange(len(part), device=labels.device) * draws + correct.int().argmin(1)
                    yield replace(part, images=candidates[first]).take(fallen)
                if not fallen.all():
                    survivors.append(part.take(~fallen))
            asked += draws
            victim.progress(asked / self.queries)
            if not survivors:
                return
            batch = join(survivors)


def _candidates(batch: Batch, draws: int, generators: dict[int, np.random.Generator]) -> Tensor:
    """The next draws of each image, one image after the other, (b * draws, c, h, w)."""
    noise = np.stack(
        [random_surface(draws, batch.clean[0].numel(), generators[i], batch.ball.norm) for i in batch.index.tolist()]
    )
    clean = batch.clean.repeat_interleave(draws, 0)
    return batch.ball.project(clean + batch.radius * torch.from_numpy(noise).to(clean).view_as(clean), clean)


def random_surface(count: int, dimensions: int, rng: np.random.Generator, norm: Norm) -> NDArray[np.float32]:
    """Points of norm 1, fp32 (count, dimensions), the same however many are drawn at a time.

    In ``l2`` of uniform direction, in ``linf`` corners.
    """
    if norm == "linf":
        return rng.integers(0, 2, (count, dimensions)).astype(np.float32) * 2 - 1
    direction = rng.standard_normal((count, dimensions), dtype=np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction
