"""Stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.optimizers import Optimizer
from trainables.registry import register
from trainables.settings.space import Range, searched


@register("sgd")
@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Raises:
        ValueError: Nesterov without momentum.
    """

    momentum: float = searched(0.9, Range(low=0, high=1))  # share of the last step that the next one keeps
    nesterov: bool = False  # whether the gradient is read ahead of the momentum
    weight_decay: float = searched(0.0, Range(low=0, high=1))  # L2 penalty: times a parameter, added to its gradient

    torch_class: ClassVar[str] = "SGD"
    source: ClassVar[str] = (
        "Sutskever, Martens, Dahl and Hinton 2013, "
        '"On the importance of initialization and momentum in deep learning", section 2, in the form of torch.optim.SGD'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("momentum must be above 0 with nesterov: true, got 0; raise it or remove nesterov")
