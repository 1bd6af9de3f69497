"""A small convolutional network."""

from __future__ import annotations

from torch import nn


def small_net(num_classes: int, in_channels: int = 1, width: int = 8) -> nn.Module:
    """Two convolutions and a linear classifier; 20 x 20 pixels become 5 x 5 maps.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images.
        width: Channels of the first convolution.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 25, 16),
        nn.ReLU(),
        nn.Linear(16, num_classes),
    )
