"""LeNet-5 for digits."""

from __future__ import annotations

from torch import nn

from trainables.models.pooled_convolution import PooledConvolution

INPUT_SIZE = 32


def lenet5(channels: int, classes: int, size: int) -> nn.Sequential:
    """LeNet-5 in its modern form: full connections between the feature maps, ReLU, max pooling.

    Maximum and ReLU commute, and pooling first leaves ReLU a quarter of the values.

    Args:
        channels: Channels of the images.
        classes: Number of classes.
        size: Height and width of the images, at most 32: smaller ones are padded to the original's 32.

    Returns:
        The model; 61,706 parameters for 1 channel and 10 classes.

    Source:
        LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.
    """
    return nn.Sequential(
        PooledConvolution(channels, 6, 5, padding=(INPUT_SIZE - size) // 2),
        nn.ReLU(),
        PooledConvolution(6, 16, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )
