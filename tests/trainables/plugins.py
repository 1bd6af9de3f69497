"""Components as a user writes them, by import path, without a class of ours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.losses import Loss
from trainables.settings.space import Range, searched


class Prototypes(nn.Module):
    """A loss with learnable prototypes of the classes and a running mean, whose head replaces the classifier."""

    def __init__(self, features: int, num_classes: int, scale: float = 0.1) -> None:
        super().__init__()
        self.scale = scale
        self.prototypes = nn.Parameter(torch.randn(num_classes, features))
        self.register_buffer("mean", torch.zeros(features))

    def head(self, features: Tensor) -> Tensor:
        return -self.scale * torch.cdist(features, self.prototypes).square()

    def forward(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        del logits
        assert features.dtype in (torch.float32, torch.float64)
        assert not torch.is_autocast_enabled(features.device.type)
        if self.training:
            self.mean.lerp_(features.detach().mean(0), 0.1)
        return F.cross_entropy(self.head(features), labels)


def focal(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """A loss as a function."""
    log_p = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1))
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


def unreduced(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss that forgets to take the mean."""
    return F.cross_entropy(logits, labels, reduction="none")


def cropped(images: Tensor) -> Tensor:
    """A defence that returns images of another size."""
    return images[..., 1:]


def staged(logits: Tensor, labels: Tensor, epochs: float = 1.0) -> Tensor:
    """A loss whose parameter has the name of a column of ``trials.csv``."""
    return epochs * F.cross_entropy(logits, labels)


@dataclass(frozen=True, kw_only=True)
class Squared(Loss):
    """A loss as a `Loss` class of the user's own."""

    power: float = searched(2.0, Range(low=1, high=4))

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        del features
        return (logits - F.one_hot(labels, logits.shape[-1])).abs().pow(self.power).mean()


class Branches(nn.Module):
    """A model that is no ``Sequential``, with dropout, whose last linear layer is not the last module."""

    def __init__(self, num_classes: int, in_channels: int, width: int = 4) -> None:
        super().__init__()
        self.classifier = nn.Linear(2 * width, num_classes)
        self.left = nn.Conv2d(in_channels, width, 3)
        self.right = nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        both = torch.cat([self.left(images), self.right(images)], 1).relu().mean((2, 3))
        logits: Tensor = self.classifier(self.dropout(both))
        return logits


def two_logits(num_classes: int) -> nn.Module:
    """A model that ignores the number of classes."""
    del num_classes
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))


def refusing(num_classes: int) -> nn.Module:
    """A factory that fails."""
    raise KeyError(num_classes)


def number(num_classes: int) -> int:
    """Neither a model nor a loss."""
    return num_classes


def noisy(images: Tensor, generator: torch.Generator, sigma: float = 0.1) -> Tensor:
    """A defence that replaces the images."""
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return (images + sigma * noise).clamp(0, 1)


def penalised(model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor, weight: float = 0.1) -> Tensor:
    """A defence that replaces the loss."""
    value: Tensor = loss(images, labels) + weight * model(images).square().mean()
    return value
