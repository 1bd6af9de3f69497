"""What every optimizer provides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainables.registry import Component, Kind

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Optimizer(Component):
    """How gradients move parameters. A subclass names an optimizer of ``torch.optim``, or overrides ``build``."""

    kind: ClassVar[Kind] = "optimizer"
    torch_class: ClassVar[str]  # in ``torch.optim``; the settings are its arguments
    fused: ClassVar[bool | None] = None  # whether all parameters are moved by one kernel; None for torch's default

    def build(self, groups: Sequence[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
        """An optimizer without history.

        Args:
            groups: Parameter groups as ``torch.optim`` takes them, all on one device.
            learning_rate: The initial step size; every training step sets ``lr`` of every group again.
        """
        import torch

        factory: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, self.torch_class)
        return factory(groups, lr=learning_rate, fused=self.fused, **self.settings)
