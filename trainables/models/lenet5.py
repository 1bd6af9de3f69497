"""LeNet-5 for digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.models import Model, Shape
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn

INPUT_SIZE: Final = 32


@register("lenet5")
@dataclass(frozen=True, kw_only=True)
class LeNet5(Model):
    """LeNet-5 in its modern form: every feature map reads all maps before it, ReLU, max pooling.

    It has 61,706 parameters for 1 channel, 10 classes and width 1.
    """

    # Multiplies the channels of the convolutions and the units of the hidden linear layers.
    width: int = searched(1, Range(low=1, high=16, integer=True))

    source: ClassVar[str] = (
        'LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", section II'
    )

    def check(self, shape: Shape, classes: int) -> None:
        """Images may be smaller than the original's 32x32, to which they are padded, but not larger."""
        del classes
        _, height, width = shape
        if max(height, width) > INPUT_SIZE:
            raise ValueError(
                f"data.size must give images of at most {INPUT_SIZE}x{INPUT_SIZE} pixels for lenet5, "
                f"got {height}x{width}; resize them or choose another model"
            )

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        from torch import nn

        self.check(shape, classes)
        channels, height, width = shape
        padding = ((INPUT_SIZE + 1 - height) // 2, (INPUT_SIZE + 1 - width) // 2)
        first, second, third, fourth = (self.width * units for units in (6, 16, 120, 84))
        return nn.Sequential(
            # Maximum and ReLU commute, and pooling first leaves ReLU a quarter of the values.
            nn.Conv2d(channels, first, 5, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(first, second, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * 5 * 5, third),
            nn.ReLU(),
            nn.Linear(third, fourth),
            nn.ReLU(),
            nn.Linear(fourth, classes),
        )
