"""The inner attack of defences, and a model left as it was; apart from their settings, because it needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from trainables.attacks.engine.ball import Ball

# The length of all steps together, in radii: enough to cross the ball and to move along its surface.
PATH: Final = 2.5


def ascend(
    module: nn.Module, objective: Callable[[Tensor], Tensor], start: Tensor, clean: Tensor, ball: Ball, steps: int
) -> Tensor:
    """Projected gradient ascent from ``start`` within a ball around images (n, c, h, w), in steps of equal length.

    Args:
        module: What the objective passes the images through. Every step meets its buffers as they were, and leaves them
            so: batch norm's running statistics, and centres that a loss moves.
        objective: A sum over the images: gradients of a mean would underflow in fp16, the more the larger the batch is.
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
    """Evaluation mode inside, each module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
