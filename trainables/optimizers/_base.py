"""What every optimizer provides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.registry import Component, Kind

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Optimizer(Component):
    """How gradients move parameters."""

    kind: ClassVar[Kind] = "optimizer"

    def build(self, groups: Sequence[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
        """An optimizer without history.

        Args:
            groups: Parameter groups as ``torch.optim`` takes them, all on one device.
            learning_rate: The initial step size; every training step sets ``lr`` of every group again.
        """
        raise NotImplementedError(f"{type(self).__name__} must define build")
