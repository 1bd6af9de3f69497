"""Layers that models are built from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Normalization(nn.Module):
    """Standardises each channel, (x - mean) / deviation, so that attacks work on pixels in [0, 1].

    Mean and standard deviation, above 0, have shape (channels,).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(-1, 1, 1).clone())
        self.register_buffer("deviation", deviation.reshape(-1, 1, 1).clone())

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) in [0, 1] to zero mean and unit deviation."""
        return (images - self.mean) / self.deviation


class PreActivationBlock(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))). The shortcut is subsampled, and padded with zeros where the width grows.

    The widths are channels. The resolution is halved where they differ.
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
        """Shape (n, width_in, h, w) to (n, width, ceil(h / stride), ceil(w / stride))."""
        shortcut = x
        if self.new_channels:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        residual: Tensor = self.residual(x)
        return shortcut + residual
