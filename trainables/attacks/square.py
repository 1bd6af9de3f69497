"""The Square attack."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from trainables.attacks.engine.attack import Batch, Invariance
from trainables.attacks.engine.iterative import QueryAttack
from trainables.registry import register
from trainables.settings.checks import count, positive
from trainables.settings.threat import Norm

if TYPE_CHECKING:
    from torch import Tensor

# After these candidates the windows' area is halved again. Made for 10,000 candidates and kept whatever their number.
HALVINGS: Final = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
LEAST_WINDOW: Final = 3  # in L2, where it has to hold a hump and a dip


@register("square")
@dataclass(frozen=True, kw_only=True)
class Square(QueryAttack):
    """Random search that changes one square window at a time: its sign (Linf), or its share of the change (L2).

    The first query asks about a highly structured start: vertical stripes of +-radius (Linf), tiles of humps and dips
    (L2). From then on a candidate becomes the image if the margin of the true logit over the best other one has
    fallen. Every image draws its own windows; they reach all four edges, as in the paper (in the reference code they
    never touch the lower and the right one). The first windows cover the given share of the pixels.
    """

    source: ClassVar[str] = (
        'Andriushchenko et al. 2020, "Square Attack: a query-efficient black-box adversarial attack via random '
        'search"; schedule and window sizes as in AutoAttack (Croce and Hein 2020)'
    )
    invariance: ClassVar[Invariance] = "global"
    shown: ClassVar[tuple[str, ...]] = ("queries",)

    queries: int = count(5000)
    share: float = positive(0.8, most=1.0)

    def propose(self, batch: Batch, query: int, rng: np.random.Generator) -> Tensor:
        from trainables.attacks.engine.windows import mass_moved, signs, stripes, tiles, uniform, window

        l2 = batch.ball.norm == "l2"
        if query == 0:
            return batch.clean + batch.radius * (tiles(batch, rng) if l2 else stripes(batch, rng))
        channels, height, width = batch.clean.shape[1:]
        size = window_size(query - 1, self.share, height, width, batch.ball.norm)
        if l2:
            return batch.clean + mass_moved(batch, size, rng)
        draws = uniform(batch, 2 + channels, rng)
        square = window(batch, size, draws[:, :2])
        candidates = batch.images.clone()
        candidates[square] = batch.clean[square] + batch.radius * signs(batch, draws[:, 2:])[:, None, None]
        return candidates

    def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
        from trainables.attacks.engine.margins import margin

        nearer = margin(logits, batch.labels) > margin(batch.memory["logits"], batch.labels)
        return nearer if query else nearer.new_ones(len(batch))


def window_size(candidate: int, share: float, height: int, width: int, norm: Norm) -> int:
    """The side of a candidate's window, in pixels; candidates count from 0 without the start.

    In ``l2`` it is odd, and at least `LEAST_WINDOW` if the image has room for it.
    """
    size = round(math.sqrt(share / 2 ** bisect_left(HALVINGS, candidate) * height * width))
    room = min(height, width)
    if norm == "linf":
        return min(max(size, 1), room)
    size = max(size, LEAST_WINDOW)
    return min(size + 1 - size % 2, room - 1 + room % 2)
