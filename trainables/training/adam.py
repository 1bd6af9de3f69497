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
        parameters: What is optimised, all on one device.

    Source:
        Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1.
    """

    _step_supports_amp_scaling: Final = True

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.param_groups = [{"params": self.parameters}]
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = torch.zeros((), device=self.parameters[0].device)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves every parameter against its gradient by about the learning rate; nothing moves after an overflow."""
        # GradScaler sets these two for the duration of a step.
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        assert len(gradients) == len(self.parameters), "a parameter without a gradient"
        self.steps += 1
        torch._fused_adam_(
            self.parameters,
            gradients,
            self.means,
            self.squares,
            [],
            [self.steps] * len(gradients),
            lr=learning_rate,
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
