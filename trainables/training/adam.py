"""Adam without ``torch.optim``.

Making any of torch's own optimisers imports torch.compile's machinery, which takes twice as long as importing torch
itself; every worker and every command would wait for it. The arithmetic is torch's own fused kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


class Adam:
    """Adam with the usual constants, bit for bit ``torch.optim.Adam(fused=True)``.

    It has what ``torch.amp.GradScaler`` needs of an optimiser: ``param_groups``, and a step that takes the scale's
    inverse and the overflow flag from ``grad_scale`` and ``found_inf``, without bringing them to the host.

    Args:
        groups: Parameter groups, all on one device.
        learning_rate: The initial step size; ``lr`` of each group may be set before each step.

    Source:
        Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1.
    """

    _step_supports_amp_scaling: Final = True

    def __init__(self, groups: Iterable[Mapping[str, Any]], learning_rate: float) -> None:
        self.param_groups = [{**group, "params": list(group["params"]), "lr": learning_rate} for group in groups]
        self.parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = torch.zeros((), device=self.parameters[0].device)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter against its gradient by about the learning rate; nothing moves after an overflow."""
        # GradScaler sets these two for the duration of a step.
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        moved = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        self.steps += 1
        torch._fused_adam_(
            [self.parameters[i] for i in moved],
            [self.parameters[i].grad for i in moved],
            [self.means[i] for i in moved],
            [self.squares[i] for i in moved],
            [],
            [self.steps] * len(moved),
            lr=self.param_groups[0]["lr"],
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            grad_scale=grad_scale,
            found_inf=found_inf,
        )
        if found_inf is not None:
            self.steps -= found_inf

    def state_dict(self) -> dict[str, Any]:
        """Moments and the number of steps."""
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state of the same parameters."""
        for name in ("means", "squares"):
            for tensor, saved in zip(getattr(self, name), state[name], strict=True):
                tensor.copy_(saved)
        self.steps.copy_(state["steps"])
