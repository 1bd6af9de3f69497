"""ResNet-32 with pre-activation blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from trainables.models import Model, Shape
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn

BLOCKS_PER_STAGE: Final = 5
WIDTHS: Final = (16, 32, 64)


@register("resnet32")
@dataclass(frozen=True, kw_only=True)
class ResNet32(Model):
    """Three stages (16, 32, 64 channels) of five pre-activation blocks with parameter-free shortcuts.

    It has 463,866 parameters for 1 channel and 464,154 for 3, with 10 classes and width 1.
    """

    width: int = searched(1, Range(low=1, high=16, integer=True))  # multiplies the channels of all stages

    source: ClassVar[str] = (
        'He, Zhang, Ren and Sun 2016, "Identity mappings in deep residual networks" (blocks), 2016, "Deep residual '
        'learning for image recognition", section 4.2 (channels, shortcuts of option A), and 2015, "Delving deep into '
        'rectifiers", section 2.2 (initialisation)'
    )

    def build(self, shape: Shape, classes: int) -> nn.Sequential:
        from torch import nn

        from trainables.models.layers.blocks import PreActivationBlock

        widths = [self.width * channels for channels in WIDTHS]
        blocks: list[nn.Module] = []
        for before, width in zip((widths[0], *widths), widths, strict=False):
            blocks.append(PreActivationBlock(before, width))
            blocks += [PreActivationBlock(width, width) for _ in range(BLOCKS_PER_STAGE - 1)]
        model = nn.Sequential(
            nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False),
            *blocks,
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], classes),
        )
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        return model
