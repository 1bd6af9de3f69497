"""A loss without parameters and state as a module."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Stateless(nn.Module):
    """Wraps a function of features, logits and labels.

    Args:
        value: Returns the mean loss of a batch.
    """

    def __init__(self, value: Callable[[Tensor | None, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch."""
        return self.value(features, logits, labels)
