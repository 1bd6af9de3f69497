"""Running attacks of others: what they return is projected and judged by us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from trainables.attacks.engine.batch import Batch
from trainables.attacks.engine.randomness import isolated_randomness
from trainables.attacks.engine.victim import Victim


def judged(
    perturb: Callable[[nn.Module, Batch], Tensor],
    victim: Victim,
    batch: Batch,
    *,
    seed: int,
    batch_size: int,
    project: bool,
) -> Iterator[Batch]:
    """Broken images among those that ``perturb`` returns, batch by batch, each from the same seed.

    Whatever draws at random draws for a whole batch, so an image's outcome depends on the images next to it.

    Args:
        perturb: From the model, in evaluation mode, and a batch to images (b, c, h, w).
        victim: The model.
        batch: The images.
        seed: In [0, 2^32); seeds the global random states inside ``perturb``.
        batch_size: Images per pass.
        project: Whether images outside the ball are brought back to it; otherwise the clean image stands for them.

    Raises:
        ValueError: What comes back has another shape.
    """
    parts = batch.split(batch_size)
    for done, part in enumerate(parts, start=1):
        with isolated_randomness(seed):
            # In evaluation mode as a whole: torchattacks would otherwise leave it in training mode.
            images = perturb(_PlainLayout(victim).eval(), part)
        if images.shape != part.clean.shape:
            shape, got = tuple(part.clean.shape), tuple(images.shape)
            raise ValueError(f"an attack must return images of shape {shape}, got {got}; correct it")
        images = images.detach().to(part.clean)
        if project:
            images = part.ball.project(images, part.clean)
        else:
            images = images.clamp(0.0, 1.0)
            inside = part.ball.holds(part.ball.distance(images, part.clean))
            images = torch.where(inside.view(-1, 1, 1, 1), images, part.clean)
        with torch.no_grad():
            correct = victim.correct(images, victim.logits(images), part.labels)
        yield replace(part, images=images).take(~correct)
        victim.progress(done / len(parts))


class _PlainLayout(nn.Module):
    """Hands out row-major gradients: others' attacks call ``view`` on them, which fails on channels_last ones."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.victim(_RowMajorGradient.apply(images))
        return logits


class _RowMajorGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:  # noqa: ARG004
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return gradient.contiguous()
