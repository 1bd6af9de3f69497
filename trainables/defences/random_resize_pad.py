"""Random resizing and padding at inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.defences import Defence
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import nn


@register("random-resize-pad")
@dataclass(frozen=True, kw_only=True)
class RandomResizePad(Defence):
    """Enlarges each image by a random number of pixels at inference, and pads it with zeros at a random position.

    A side of n pixels is resized by nearest neighbour to a random length of n + 1 to n + ``padding`` - 1 (n for a
    ``padding`` of 1; in the paper the length may always be n), then padded with zeros to n + ``padding``. Size and
    position are drawn for each image and each draw. Training does not change. The model is random: without ``eot``,
    attacks on it are too weak.

    Args:
        padding: The number of pixels by which images grow; 0 leaves them unchanged. The authors use 32 for 299 pixels;
            in proportion, that is 3 for 28 and 4 for 32.
        draws: The number of draws over which the logits are averaged: 1 in the paper, 30 in the authors' code.
    """

    padding: int = searched(3, Range(low=0, high=64, integer=True))
    draws: int = 1

    source: ClassVar[str] = (
        'Xie, Wang, Zhang, Ren and Yuille 2018, "Mitigating adversarial effects through randomization"'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, got {self.draws}; leave it out for 1")

    def check(self, build: Callable[[], nn.Module], shape: tuple[int, int, int]) -> None:
        import torch

        channels, height, width = shape
        padded = (channels, height + self.padding, width + self.padding)
        with torch.random.fork_rng(devices=()), torch.no_grad():
            try:
                build().eval()(torch.zeros(2, *padded))
            except Exception:  # every model fails in its own way
                size = f"{height + self.padding}x{width + self.padding}"
                raise ValueError(
                    f"defence.padding must give images that the model accepts, got {self.padding}, which gives "
                    f"{size}; lower it or choose another model"
                ) from None

    def wrap(self, model: nn.Module) -> nn.Module:
        from trainables.defences._resize_pad import ResizePad

        return ResizePad(model, self.padding, self.draws) if self.padding else model
