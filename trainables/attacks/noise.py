"""Random search that learns nothing from what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from trainables.attacks.engine.attack import Attack, Batch, Invariance, join
from trainables.registry import register
from trainables.settings.checks import count
from trainables.settings.threat import Norm

if TYPE_CHECKING:
    from trainables.attacks.engine.victim import Victim


@register("noise")
@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Points on the ball's surface, each drawn independently of the others and of the model's answers, then clipped.

    Images that fall to it and not to an attack that follows gradients show that the gradients mislead. Directions are
    uniform in L2. In Linf the signs are: of all points of the cube, its corners change a linear function most, three
    times as much in the mean square as points drawn uniformly from it.
    """

    source: ClassVar[str] = 'Carlini et al. 2019, "On evaluating adversarial robustness", on brute-force random search'
    invariance: ClassVar[Invariance] = "per-image"  # it asks for labels alone
    shown: ClassVar[tuple[str, ...]] = ("queries",)

    queries: int = count(1000)

    @property
    def passes(self) -> int:
        return self.queries

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        # A generator for each image, so that a pass can hold many draws of few images.
        generators = {i: np.random.default_rng([seed, i]) for i in batch.index.tolist()}
        asked = 0
        while asked < self.queries:
            # As many draws of each image as fill a pass.
            draws = min(max(batch_size // len(batch), 1), self.queries - asked)
            survivors = []
            for part in batch.split(batch_size):
                broken, standing = _ask(victim, part, draws, generators)
                yield broken
                survivors.append(standing)
            asked += draws
            victim.progress(asked / self.queries)
            batch = join(survivors)
            if not len(batch):
                return


def _ask(victim: Victim, batch: Batch, draws: int, generators: dict[int, np.random.Generator]) -> tuple[Batch, Batch]:
    """The images that some of the next draws break, each at the first of them, and the images that none breaks."""
    import torch

    dimensions, norm = batch.clean[0].numel(), batch.ball.norm
    noise = np.stack([random_surface(draws, dimensions, generators[i], norm) for i in batch.index.tolist()])
    with torch.no_grad():
        # All draws of one image come before those of the next.
        clean, labels = batch.clean.repeat_interleave(draws, 0), batch.labels.repeat_interleave(draws)
        change = batch.radius * torch.from_numpy(noise).to(clean).view_as(clean)
        candidates = batch.ball.project(clean + change, clean)
        correct = victim.correct(candidates, victim.logits(candidates), labels).view(len(batch), draws)
        broken = ~correct.all(1)
        first = torch.arange(len(batch), device=labels.device) * draws + correct.int().argmin(1)
        return replace(batch, images=candidates[first]).take(broken), batch.take(~broken)


def random_surface(count: int, dimensions: int, rng: np.random.Generator, norm: Norm) -> NDArray[np.float32]:
    """Points of norm 1, in Linf corners, fp32 (count, dimensions), the same however many are drawn at a time."""
    if norm == "linf":
        return rng.integers(0, 2, (count, dimensions)).astype(np.float32) * 2 - 1
    direction = rng.standard_normal((count, dimensions), dtype=np.float32)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction
