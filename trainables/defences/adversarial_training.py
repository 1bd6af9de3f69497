"""Adversarial training with projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from trainables.defences import Defence, check_radius
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@register("adversarial-training")
@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Defence):
    """Trains only on images attacked by PGD on the training loss.

    The attack starts at a random point of the ball and takes steps of length 2.5 epsilon / steps. As in the authors'
    code (MadryLab/cifar10_challenge), it runs in training mode: batch norm uses the statistics of the attacked batch.
    It changes neither running statistics nor any other buffer. The defaults are the authors' on MNIST (section 4).

    At a large radius, training may collapse to a constant in its first steps. ``warm_up`` prevents that: the radius
    grows linearly from 0 (Pang et al. 2021, "Bag of tricks for adversarial training").
    """

    # Radius of the ball in pixel units (pixels lie in [0, 1]); 0 turns the defence off.
    epsilon: float = searched(0.3, Range(low=0, high=10))
    steps: int = searched(40, Range(low=1, high=1000, integer=True))  # gradient steps of the attack
    norm: Literal["l2", "linf"] = "linf"  # of the ball
    # The share of the training over which the radius grows from 0 to ``epsilon``.
    warm_up: float = searched(0.0, Range(low=0, high=1))

    keeps_best: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, "
        '"Towards deep learning models resistant to adversarial attacks", sections 3 and 4'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.epsilon, self.norm)

    @property
    def passes(self) -> int:
        return super().passes + (2 * self.steps if self.epsilon > 0 else 0)

    def at(self, progress: float) -> Self:
        if progress >= self.warm_up:
            return self
        return replace(self, epsilon=self.epsilon * progress / self.warm_up)

    def training_images(
        self, model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self.epsilon == 0:
            return images
        del model  # the attack maximises the training loss, which contains it
        from trainables.attacks.engine.ball import Ball
        from trainables.defences._ascent import ascend

        ball, start = Ball(self.epsilon, self.norm), images + self._start(images, generator)

        def total(adversarial: Tensor) -> Tensor:
            value: Tensor = len(images) * loss(adversarial, labels)
            return value

        return ascend(loss, total, start, images, ball, self.steps)

    def _start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A random point of the ball around 0, per image: uniform for linf, uniform in direction and length for l2."""
        import torch

        options: Any = {"generator": generator, "device": images.device, "dtype": images.dtype}
        if self.norm == "linf":
            return self.epsilon * (2 * torch.rand(images.shape, **options) - 1)
        noise = torch.randn(images.shape, **options)
        length = self.epsilon * torch.rand((len(images), 1, 1, 1), **options)
        size: Tensor = torch.linalg.vector_norm(noise, dim=(1, 2, 3), keepdim=True)
        return noise * (length / size)
