"""The inner attack of defences; in a file of its own, because it needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from trainables.attacks.engine.ball import Ball

# The total length of all steps, in radii: enough to cross the ball and to move along its surface.
PATH: Final = 2.5


def ascend(
    module: nn.Module, objective: Callable[[Tensor], Tensor], start: Tensor, clean: Tensor, ball: Ball, steps: int
) -> Tensor:
    """Projected gradient ascent from ``start`` within a ball around images (n, c, h, w), in steps of equal length.

    Args:
        module: The module that the objective evaluates. After every step its buffers are restored, such as batch norm's
            running statistics and the centres of a loss.
        objective: A sum over the images. The gradients of a mean underflow in fp16, above all with large batches.
    """
    length = PATH * ball.radius / steps
    images, buffers = ball.project(start, clean), [(buffer, buffer.clone()) for buffer in module.buffers()]
    for _ in range(steps):
        images.requires_grad_()
        try:
            (gradient,) = torch.autograd.grad(objective(images), images)
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
        images = ball.project(images.detach() + length * ball.steepest(gradient), clean)
    return images


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Sets the model to evaluation mode, and restores each module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
