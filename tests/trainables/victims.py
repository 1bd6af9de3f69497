"""Small models on synthetic images that attacks are tested on."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from trainables.losses.cross_entropy import cross_entropy
from trainables.losses.i_sce import i_sce

CLASSES = 5
RADIUS = 0.35


def digits(count: int, channels: int = 1, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Noisy 8x8 prototypes of five classes, in [0, 1]."""
    prototypes = torch.rand(CLASSES, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    noise = torch.randn(count, channels, 8, 8, generator=generator)
    return (0.3 + 0.4 * prototypes[labels] + 0.2 * noise).clamp(0, 1), labels


@cache
def trained(name: str = "sce", channels: int = 1) -> nn.Sequential:
    """A network with batch norm and dropout, trained for a second; do not change it."""
    with torch.random.fork_rng(devices=()), torch.enable_grad():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(72, CLASSES),
        ).to(memory_format=torch.channels_last)
        parameters = list(model.parameters())
        images, labels = digits(512, channels, seed=2)
        for _ in range(10):
            for rows in torch.randperm(len(images)).split(64):
                logits = model(images[rows])
                loss = cross_entropy(logits, labels[rows]) if name == "sce" else i_sce(logits, labels[rows], 1.0, 0.1)
                # By hand, since torch.optim imports a compiler that takes longer to load than all these tests take.
                for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    parameter.data -= 0.3 * gradient
    return model.eval()


class Scaled(nn.Module):
    """A model whose logits are multiplied by a number: its decisions are the same."""

    def __init__(self, model: nn.Module, scale: float) -> None:
        super().__init__()
        self.model = model
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.model(images)


def linear(weights: Tensor, bias: Tensor) -> nn.Sequential:
    """Logits = images . weights + bias, of images flattened to d values; weights (k, d), bias (k,)."""
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weights)
        layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer)
