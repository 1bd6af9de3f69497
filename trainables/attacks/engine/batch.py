"""Images under attack, one per row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.engine.ball import Ball


@dataclass
class Batch:
    """Images under attack, one per row.

    Args:
        clean: The clean images, (b, c, h, w).
        labels: True labels, (b,).
        clean_logits: The clean images' logits z, (b, k).
        images: The current iterates, (b, c, h, w), inside ball and box.
        index: Each image's position in the caller's images, (b,).
        ball: Where the iterates must stay.
        memory: What an attack remembers of each image from step to step, first axis b (a momentum, a step size, ...).
    """

    clean: Tensor
    labels: Tensor
    clean_logits: Tensor
    images: Tensor
    index: Tensor
    ball: Ball
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def radius(self) -> float:
        """The ball's radius, in pixel units."""
        return self.ball.radius

    def take(self, rows: slice | Tensor) -> Batch:
        """The batch of some rows: a slice, positions or a mask."""
        return Batch(
            self.clean[rows],
            self.labels[rows],
            self.clean_logits[rows],
            self.images[rows],
            self.index[rows],
            self.ball,
            {name: values[rows] for name, values in self.memory.items()},
        )

    def split(self, size: int) -> list[Batch]:
        """Batches of at most ``size`` rows that share this one's storage."""
        return [self.take(slice(begin, begin + size)) for begin in range(0, len(self), size)]


def join(batches: list[Batch]) -> Batch:
    """One batch of all rows, in order; the inverse of `Batch.split`."""
    import torch

    return Batch(
        torch.cat([batch.clean for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.clean_logits for batch in batches]),
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.index for batch in batches]),
        batches[0].ball,
        {name: torch.cat([batch.memory[name] for batch in batches]) for name in batches[0].memory},
    )
