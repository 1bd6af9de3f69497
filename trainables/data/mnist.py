"""MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.data._official import IdxDataset
from trainables.registry import register


@register("mnist")
@dataclass(frozen=True, kw_only=True)
class Mnist(IdxDataset):
    """The whole of MNIST: 60,000 training and 10,000 test images."""

    pool = 60000
    summary = "70,000 handwritten digits, 28x28 grey"
    source = "LeCun, Bottou, Bengio, Haffner 1998, Gradient-based learning applied to document recognition"
    torchvision_class: ClassVar[str] = "MNIST"
    torchvision_folder: ClassVar[str] = "MNIST/raw"
