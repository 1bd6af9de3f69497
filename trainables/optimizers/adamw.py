"""Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.optimizers import Optimizer
from trainables.registry import register
from trainables.settings.space import Range, searched


@register("adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam whose weight decay does not go through the moments."""

    # Times the learning rate, the share that each step takes off every parameter.
    weight_decay: float = searched(1e-2, Range(low=0, high=1))

    torch_class: ClassVar[str] = "AdamW"
    fused: ClassVar[bool | None] = True
    source: ClassVar[str] = 'Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithm 2'
