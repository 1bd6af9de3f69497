"""What every defence provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from trainables.registry import Component, External, Kind, external

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainables.settings.threat import Norm


@dataclass(frozen=True, kw_only=True)
class Defence(Component):
    """A change of the training step, of the trained model, or of both."""

    kind: ClassVar[Kind] = "defence"
    # Whether the best epoch is kept beside the last. Training on attacked images overfits: late in the training, robust
    # accuracy falls. Rice, Wong and Kolter 2020, "Overfitting in adversarially robust deep learning".
    keeps_best: ClassVar[bool] = False

    @property
    def passes(self) -> int:
        """The images that go forward or backward for each training image in an epoch, at most."""
        return 2

    def at(self, progress: float) -> Self:
        """The defence as it is after a fraction ``progress`` in [0, 1) of all training steps: by default the same."""
        del progress
        return self

    def check(self, build: Callable[[], nn.Module], shape: tuple[int, int, int]) -> None:
        """Checks that the defence fits the model and images of this shape (channels, height, width).

        Args:
            build: Builds an untrained model for such images; it draws from torch's default generator.

        Raises:
            ValueError: It does not fit.
        """
        del build, shape

    def training_images(
        self, model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        """What a training step sees in place of its images: by default the images themselves.

        Model and loss are in training mode. Afterwards their parameters, gradients and buffers must be as before.

        Args:
            model: From images to the logits that decide.
            loss: From images and labels to the training loss, a scalar; holds the model and the loss's own module.
            images: The batch in [0, 1], (n, c, h, w).
            labels: Classes, (n,).
            generator: The only source of randomness, on the images' device. Checkpoints hold its state.

        Returns:
            Images in [0, 1], (n, c, h, w), without a graph.
        """
        del model, loss, labels, generator
        return images

    def training_loss(
        self, model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss that a training step descends: by default that of ``training_images``; arguments as there."""
        value: Tensor = loss(self.training_images(model, loss, images, labels, generator), labels)
        return value

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model that predictions and attacks see. The default is the model itself.

        A randomised model draws from torch's global generator of the images' device, which evaluations seed. Attacks on
        it need ``eot``.
        """
        return model


@external
@dataclass(frozen=True, kw_only=True)
class ExternalDefence(Defence, External):
    """A defence given by import path: a function that is called in every training step.

    It gets its settings, and of ``model``, ``loss``, ``images``, ``labels`` and ``generator`` (see
    `Defence.training_images`) those that it has arguments for. It returns the images to train on, or the batch's loss
    as a scalar.
    """

    offered: ClassVar[tuple[str, ...]] = ("model", "loss", "images", "labels", "generator")

    def training_loss(
        self, model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        result: Tensor = self.call(model=model, loss=loss, images=images, labels=labels, generator=generator)
        if result.dim() > 0:
            if result.shape != images.shape:
                raise ValueError(
                    f"defence must return images of shape {tuple(images.shape)} or one number, got {self.path}, which "
                    f"returned shape {tuple(result.shape)}; correct it"
                )
            result = loss(result.detach(), labels)
        return result


def check_radius(epsilon: float, norm: Norm) -> None:
    """Raises a ``ValueError`` for an Linf radius above 1, which is most likely meant for pixels in [0, 255]."""
    if norm == "linf" and epsilon > 1:
        raise ValueError(
            f"epsilon must be at most 1 for linf balls on pixels in [0, 1], got {epsilon:g}; "
            "write 8/255 as 0.0314, or set norm: l2"
        )
