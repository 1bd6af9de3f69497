"""The eight-layer convolutional network for small colour images."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def cnn8(channels: int, classes: int, size: int) -> nn.Sequential:  # noqa: ARG001 (one signature for all models)
    """Six 3x3 convolutions (32, 32, 64, 64, 128, 128), pooled after each pair, and two linear layers.

    The paper names an "eight-layer CNN" and leaves it open; this is our reading. Pooling rounds up, so that images of
    28 and of 32 pixels both arrive as 4x4 maps.

    Args:
        channels: Channels of the images.
        classes: Number of classes.
        size: Height and width of the images, 28 or 32; any reading gives the same network.

    Returns:
        The model; 814,122 parameters for 3 channels and 10 classes.
    """
    layers: list[nn.Module] = []
    for width_in, width in pairwise((channels, 32, 64, 128)):
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.ReLU()]
        # As in LeNet-5, pooling before ReLU computes the same for less.
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 256), nn.ReLU(), nn.Linear(256, classes))
