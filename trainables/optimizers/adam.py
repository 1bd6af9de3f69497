"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.optimizers import Optimizer
from trainables.registry import register


@register("adam")
@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam with the authors' constants."""

    torch_class: ClassVar[str] = "Adam"
    fused: ClassVar[bool | None] = True
    source: ClassVar[str] = 'Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1'
