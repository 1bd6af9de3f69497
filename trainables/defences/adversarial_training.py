"""Adversarial training with projected gradient descent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from trainables.defences import Defence
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# The length of all steps together, in radii: enough to cross the ball and to move along its surface.
PATH: Final = 2.5
_TINY: Final = 1e-30  # far below any gradient that counts, and a normal number in fp32


@register("adversarial-training")
@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Defence):
    """Trains on the images of a PGD attack on the training loss, all of them and nothing else.

    The attack starts at a random point of the ball and takes steps of length 2.5 epsilon / steps. It runs in training
    mode, as Madry et al. do: batch norm uses the statistics of the attacked batch. Running statistics and every other
    buffer stay as they were before it. The defaults are theirs on MNIST (section 5).
    """

    # Radius of the ball in pixel units (pixels lie in [0, 1]); with 0 training is as without the defence.
    epsilon: float = searched(0.3, Range(low=0, high=10))
    steps: int = searched(40, Range(low=1, high=1000, integer=True))  # gradient steps of the attack
    norm: Literal["l2", "linf"] = "linf"  # of the ball

    source: ClassVar[str] = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, "
        '"Towards deep learning models resistant to adversarial attacks", sections 2.1 and 5'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"epsilon must be at most 1 for linf balls on pixels in [0, 1], got {self.epsilon:g}; "
                "write 8/255 as 0.0314, or set norm: l2"
            )

    def training_images(
        self, model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        if self.epsilon == 0:
            return images
        del model  # what the attack climbs is the training loss
        import torch

        length = PATH * self.epsilon / self.steps
        adversarial = self._project(images + self._start(images, generator), images)
        with _buffers_kept(loss):
            for _ in range(self.steps):
                adversarial.requires_grad_()
                # Summed over the images, so that fp16 gradients do not underflow the more the larger the batch is.
                (gradient,) = torch.autograd.grad(len(images) * loss(adversarial, labels), adversarial)
                adversarial = self._project(adversarial.detach() + length * self._steepest(gradient), images)
        return adversarial

    def _start(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A random point of the ball around 0, per image: uniform for linf, uniform in direction and length for l2."""
        import torch

        options: Any = {"generator": generator, "device": images.device, "dtype": images.dtype}
        if self.norm == "linf":
            return self.epsilon * (2 * torch.rand(images.shape, **options) - 1)
        noise = torch.randn(images.shape, **options)
        length = torch.rand((len(images), 1, 1, 1), **options)
        return noise * (self.epsilon * length / _norm(noise).clamp_min(_TINY))

    def _project(self, images: Tensor, clean: Tensor) -> Tensor:
        """Moves images into the ball around the clean ones, then into the pixel box, where it leaves no ball."""
        change = images - clean
        if self.norm == "linf":
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            change = change * (self.epsilon / _norm(change).clamp_min(_TINY)).clamp_max(1.0)
        return (clean + change).clamp(0.0, 1.0)

    def _steepest(self, gradient: Tensor) -> Tensor:
        """The direction of unit norm in which the loss climbs most; 0 where the gradient is 0."""
        return gradient.sign() if self.norm == "linf" else gradient / _norm(gradient).clamp_min(_TINY)


def _norm(change: Tensor) -> Tensor:
    """The L2 norm of each image, (n, 1, 1, 1)."""
    norm: Tensor = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return norm


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Puts every buffer back afterwards: passes of the inner attack must not move batch norm's running statistics."""
    import torch

    saved = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)
