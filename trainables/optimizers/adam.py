"""Adam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.optimizers import Optimizer
from trainables.registry import register

if TYPE_CHECKING:
    import torch


@register("adam")
@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam with the authors' constants."""

    source: ClassVar[str] = 'Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1'

    def build(self, groups: Sequence[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(groups, lr=learning_rate, fused=True)
