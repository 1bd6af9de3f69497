"""The splits as tensors on a device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainables.data.contract import LabelledImages
from trainables.data.partition.pool import read_pool
from trainables.settings import DataSettings


@dataclass(frozen=True)
class Split:
    """Images and labels of one split on one device.

    Args:
        images: fp32 in [0, 1], shape (n, c, h, w), channels last in memory.
        labels: int64, shape (n,).
        num_classes: Classes of the data set; one more than the largest label if it is 0.
    """

    images: Tensor
    labels: Tensor
    num_classes: int = 0

    def __post_init__(self) -> None:
        if not self.num_classes and len(self.labels):
            object.__setattr__(self, "num_classes", 1 + int(self.labels.max()))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice) -> Split:
        return replace(self, images=self.images[index], labels=self.labels[index])


def load_splits(settings: DataSettings, device: torch.device | str = "cpu") -> dict[str, Split]:
    """The training and the validation split, each moved to the device once. No test image is read.

    Any prefix of a split has (nearly) the class frequencies of the whole, so that the first images are a stratified
    sample.

    Args:
        settings: Data set, sizes and the seed of the split.
        device: Where the tensors live.

    Returns:
        ``train`` and ``validation``.

    Raises:
        DataMissing: The files are neither there nor can they be downloaded.
        ValueError: A file is broken, or a split is larger than what there is.
    """
    pool = read_pool(settings)
    size = settings.validation_size
    return {"train": to_device(pool[size:], device), "validation": to_device(pool[:size], device)}


def to_device(images: LabelledImages, device: torch.device | str) -> Split:
    """Images and labels as tensors. Bytes are divided by 255; floats stay as they are."""
    # Bytes travel, and become floats on the device: a quarter of the traffic.
    pixels = torch.from_numpy(images.images).to(device).permute(0, 3, 1, 2)
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    return Split(
        pixels.contiguous(memory_format=torch.channels_last),
        torch.from_numpy(images.labels).to(device),
        images.classes,
    )
