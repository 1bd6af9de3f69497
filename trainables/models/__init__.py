"""The classifiers: each a ``Sequential`` that ends in its linear classifier, maps images to raw logits and holds its
input normalisation (if any) as buffers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.models.cnn8 import cnn8
from trainables.models.lenet5 import lenet5
from trainables.models.normalization import Normalization
from trainables.models.resnet32 import resnet32
from trainables.settings import ModelName

__all__ = ["Normalization", "build_model"]


def build_model(
    name: ModelName,
    channels: int,
    classes: int = 10,
    statistics: tuple[Tensor, Tensor] | None = None,
    *,
    size: int = 28,
) -> nn.Sequential:
    """A model with fresh weights, drawn from torch's default CPU generator.

    Args:
        name: The architecture.
        channels: Channels of the images.
        classes: Number of classes k.
        statistics: Mean and standard deviation of the channels, shape (channels,) each, when the model shall
            standardise its input itself; None to read pixels in [0, 1] as they are.
        size: Height and width of the images, 28 or 32; only LeNet-5's padding depends on it.

    Returns:
        A module from images (n, channels, size, size) in [0, 1] to raw logits z (n, classes).
    """
    model = {"lenet5": lenet5, "cnn8": cnn8, "resnet32": resnet32}[name](channels, classes, size)
    if name != "lenet5":  # convolutions of many channels run quickest with the channels last; LeNet-5 has few
        model = model.to(memory_format=torch.channels_last)
    return model if statistics is None else nn.Sequential(Normalization(*statistics), *model)
