"""What a training descends, and what it trains, as modules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from trainables.logits import at_least_single
from trainables.models.layers.features import Features


class Objective(nn.Module):
    """From images and labels to the training loss.

    Args:
        model: From images to logits.
        loss: From features, logits and labels to the mean over the batch.
        features: Where the model's features are; None for a loss that does not use them.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, features: Features | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.features = features

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of images (n, c, h, w) and labels (n,)."""
        return self.value(*self.outputs(images), labels)

    def outputs(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Features (n, d), if the loss uses them, and the model's logits (n, k)."""
        return (None, self.model(images)) if self.features is None else self.features.pass_through(images)

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch's outputs, in fp32 outside autocast.

        Raises:
            ValueError: The loss returned more than one number.
        """
        with _without_autocast(logits.device.type):
            value: Tensor = self.loss(_single(features), at_least_single(logits), labels)
        if value.dim() > 0:
            raise ValueError(f"loss must return one number, got a tensor of shape {tuple(value.shape)}; take its mean")
        return value

    def decisive(self, features: Tensor | None, logits: Tensor) -> Tensor:
        """The logits that decide: those of the loss's head if it has one, otherwise the model's."""
        head = head_of(self.loss)
        if head is None:
            return logits
        with _without_autocast(logits.device.type):
            return head(_single(features))


class Headed(nn.Module):
    """A model whose classifier is replaced by the loss's head.

    Args:
        objective: The model and its loss.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, k) of images (n, c, h, w)."""
        return self.objective.decisive(*self.objective.outputs(images))


def head_of(loss: nn.Module) -> Callable[[Tensor | None], Tensor] | None:
    """What computes the deciding logits from features in place of the model's classifier, if the loss does so."""
    head: Callable[[Tensor | None], Tensor] | None = getattr(loss, "head", None)
    return head


def _single(features: Tensor | None) -> Tensor | None:
    return None if features is None else at_least_single(features)


def _without_autocast(device: str) -> AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
