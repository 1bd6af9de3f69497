"""The splits as tensors on a device, and the augmentation of a batch. Imports torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.data import LabelledImages
from trainables.data.partition.pool import read_pool
from trainables.settings import DataSettings

MOST_SHIFT = 4


@dataclass(frozen=True)
class Split:
    """Images and labels of one split on one device."""

    images: Tensor  # fp32 in [0, 1], (n, c, h, w), channels last in memory
    labels: Tensor  # int64, (n,)
    classes: int = 0  # how many the data set has; one more than the largest label if it is 0
    name: str = ""

    def __post_init__(self) -> None:
        if not self.classes and len(self.labels):
            object.__setattr__(self, "classes", 1 + int(self.labels.max()))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice) -> Split:
        return replace(self, images=self.images[index], labels=self.labels[index])


def load_splits(settings: DataSettings, device: torch.device | str = "cpu") -> dict[str, Split]:
    """The splits ``train`` and ``validation``, each moved to the device once. No test image is read.

    With ``settings.confirmation_size``, the last validation images form a split ``confirmation`` of their own.

    Any prefix of a split has (nearly) the class frequencies of the whole, so that the first images are a stratified
    sample.

    Raises:
        DataMissing, ValueError: As ``read_pool``.
    """
    pool = read_pool(settings)
    seen, size = settings.search_size, settings.validation_size
    parts = {"train": pool[size:], "validation": pool[:seen]}
    if settings.confirmation_size:
        parts["confirmation"] = pool[seen:size]
    return {name: to_device(part, device, name) for name, part in parts.items()}


def to_device(images: LabelledImages, device: torch.device | str, name: str = "") -> Split:
    """Images and labels of a split as tensors. Bytes are divided by 255; floats stay as they are."""
    # Bytes travel, and become floats on the device: a quarter of the traffic.
    pixels = torch.from_numpy(images.images).to(device).permute(0, 3, 1, 2)
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return Split(pixels, torch.from_numpy(images.labels).to(device), images.classes, name)


def shift_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts each image by up to 4 pixels in each direction, filling with zeros, and mirrors it with probability 1/2.

    Args:
        images: Shape (n, c, h, w).
        generator: Source of the randomness, on the images' device.

    Returns:
        New images of the same shape and memory format.

    Source:
        He et al. 2016, "Deep residual learning for image recognition", section 4.2.
    """
    n, _, height, width = images.shape
    device = images.device
    corner = torch.randint(0, 2 * MOST_SHIFT + 1, (2, n, 1), generator=generator, device=device)
    flip = torch.randint(0, 2, (n, 1), generator=generator, device=device, dtype=torch.bool)
    rows = corner[0] + torch.arange(height, device=device)
    across = torch.arange(width, device=device).expand(n, width)
    columns = corner[1] + torch.where(flip, across.flip(-1), across)
    # Indexing channels-last storage keeps that format, and reads each pixel's channels together.
    padded = F.pad(images, (MOST_SHIFT,) * 4).permute(0, 2, 3, 1)
    sample = torch.arange(n, device=device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
