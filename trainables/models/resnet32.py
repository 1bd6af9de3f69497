"""ResNet-32 with pre-activation blocks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS_PER_STAGE = 5
WIDTHS = (16, 32, 64)


class PreActivationBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))); the shortcut is subsampled and padded with zeros where the width grows.

    Args:
        width_in: Channels of the input.
        width: Channels of the output; the resolution is halved where it differs from ``width_in``.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.new_channels = width - width_in
        self.stride = 2 if self.new_channels else 1
        self.residual = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.ReLU(),
            nn.Conv2d(width_in, width, 3, stride=self.stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, width_in, h, w) to (n, width, h / stride, w / stride)."""
        shortcut = x
        if self.new_channels:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        residual: Tensor = self.residual(x)
        return shortcut + residual


def resnet32(channels: int, classes: int, size: int) -> nn.Sequential:  # noqa: ARG001 (one signature for all models)
    """ResNet-32: three stages (16, 32, 64 channels) of five pre-activation blocks, parameter-free shortcuts.

    Args:
        channels: Channels of the images.
        classes: Number of classes.
        size: Height and width of the images; any reading gives the same network.

    Returns:
        The model; 463,866 parameters for 1 channel and 464,154 for 3 (10 classes).

    Source:
        He et al. 2016, "Identity mappings in deep residual networks" (blocks); He et al. 2016, "Deep residual learning
        for image recognition", section 4.2 (widths, shortcuts of option A) and He et al. 2015 (initialisation).
    """
    widths_in = (WIDTHS[0], *WIDTHS)
    blocks = [
        PreActivationBlock(width_in if first else width, width)
        for width_in, width in zip(widths_in, WIDTHS, strict=False)
        for first in (True, *[False] * (BLOCKS_PER_STAGE - 1))
    ]
    model = nn.Sequential(
        nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False),
        *blocks,
        nn.BatchNorm2d(WIDTHS[-1]),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTHS[-1], classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
