"""The simple black-box attack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.attacks.engine.attack import Batch
from trainables.attacks.engine.iterative import QueryAttack
from trainables.registry import register
from trainables.settings.checks import count, positive
from trainables.settings.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor

Basis = Literal["pixel", "dct"]


@register("simba")
@dataclass(frozen=True, kw_only=True)
class SimBA(QueryAttack):
    """One direction of an orthonormal basis after the other, each tried forwards, then backwards.

    A candidate becomes the image if the true class's probability has fallen. Each image goes through the directions in
    its own order, again and again. Candidates that leave the ball are brought back to it. Probabilities are compared by
    their log odds, which a confident model does not saturate, and a difference within rounding counts as none: max
    pooling hides many pixels from a network altogether.

    Args:
        step: Length of a step, in pixel units.
        basis: ``pixel``: single values in random order. ``dct``: cosines of one channel, low frequencies first, in
            random order among those with the same sum of vertical and horizontal frequency.
    """

    source: ClassVar[str] = (
        'Guo et al. 2019, "Simple black-box adversarial attacks"; the cosines are in the order that the '
        "authors' code calls diagonal"
    )
    norms: ClassVar[tuple[Norm, ...]] = ("l2",)
    shown: ClassVar[tuple[str, ...]] = ("queries", "basis")

    queries: int = count(300)
    step: float = positive(0.2)
    basis: Basis = "pixel"

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        import torch

        del restart
        channels, height, width = batch.clean.shape[1:]
        level = np.zeros(channels * height * width)
        if self.basis == "dct":
            level = np.tile(np.add.outer(np.arange(height), np.arange(width)).ravel(), channels)
        # A direction costs at least one query, so no image gets further than this.
        orders = random_orders(int(batch.index.max()) + 1, level, rng)[batch.index.cpu().numpy(), : self.queries]
        batch.memory |= {
            "order": torch.from_numpy(orders).to(batch.clean.device),
            "position": torch.zeros_like(batch.index),
            "sign": torch.ones(len(batch), device=batch.clean.device),
        }
        return batch.clean

    def propose(self, batch: Batch, query: int, rng: np.random.Generator) -> Tensor:
        import torch

        del query, rng
        height, width = batch.clean.shape[2:]
        rows = torch.arange(len(batch), device=batch.clean.device)
        order = batch.memory["order"]
        direction = order[rows, batch.memory["position"] % order.shape[1]].long()
        channel, y, x = direction // (height * width), direction // width % height, direction % width
        step = self.step * batch.memory["sign"].to(batch.clean.dtype)
        candidates = batch.images.clone()
        if self.basis == "pixel":
            candidates[rows, channel, y, x] += step
        else:
            vertical, horizontal = (cosines(size).to(step) for size in (height, width))
            candidates[rows, channel] += torch.einsum("b,bh,bw->bhw", step, vertical[y], horizontal[x])
        return candidates

    def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
        import torch

        from trainables.attacks.engine.margins import log_odds_against

        memory = batch.memory
        if query == 0:
            memory["odds"] = log_odds_against(memory["logits"], batch.labels)
            memory["size"] = memory["logits"].abs().amax(1)
        odds, size = log_odds_against(logits, batch.labels), logits.abs().amax(1)
        rounding = 8 * torch.finfo(logits.dtype).eps * torch.maximum(size, memory["size"])
        accepted = odds - memory["odds"] > rounding
        # A failed step forwards is tried backwards next.
        finished = accepted | (memory["sign"] < 0)
        memory |= {
            "odds": odds.where(accepted, memory["odds"]),
            "size": size.where(accepted, memory["size"]),
            "position": memory["position"] + finished,
            "sign": torch.where(finished, 1.0, -1.0),
        }
        return accepted


def random_orders(count: int, level: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int32]:
    """Permutations, int32 (count, d), by whole levels (d,), random among equals; the first never depend on count."""
    return (level + rng.random((count, len(level)))).argsort(axis=1).astype(np.int32)


@cache
def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II of a line of pixels, lowest frequency first, float64 (size, size); do not change it."""
    import torch

    frequency, place = torch.arange(size, dtype=torch.float64).unsqueeze(1), torch.arange(size, dtype=torch.float64)
    basis = (math.pi / size * (place + 0.5) * frequency).cos() * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
