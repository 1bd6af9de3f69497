"""A loss without parameters and state as a module; apart from ``_base``, because it needs torch."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Stateless(nn.Module):
    """Wraps a function from features, logits and labels to the mean loss of a batch."""

    def __init__(self, value: Callable[[Tensor | None, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        return self.value(features, logits, labels)
