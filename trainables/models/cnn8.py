"""An eight-layer convolutional network for small colour images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from trainables.models import Model, Shape
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn


@register("cnn8")
@dataclass(frozen=True, kw_only=True)
class CNN8(Model):
    """Six 3x3 convolutions (32, 32, 64, 64, 128, 128 channels), pooled after each pair, and two linear layers.

    Pooling rounds up, so images of 28 and of 32 pixels both arrive as 4x4 maps. It has 814,122 parameters for such
    images of 3 channels, 10 classes and width 1.
    """

    # Multiplies the channels of the convolutions and the units of the hidden linear layer.
    width: int = searched(1, Range(low=1, high=16, integer=True))

    source: ClassVar[str] = 'Song et al. 2022 name an "eight-layer CNN" without details; this is our reading'

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        from torch import nn

        channels, *sides = shape
        widths = [self.width * units for units in (32, 64, 128)]
        layers: list[nn.Module] = []
        for before, width in pairwise((channels, *widths)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            # Maximum and ReLU commute, and pooling first leaves ReLU a quarter of the values.
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
        values = widths[-1] * math.prod(math.ceil(side / 2 ** len(widths)) for side in sides)
        hidden = 256 * self.width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(values, hidden), nn.ReLU(), nn.Linear(hidden, classes))
