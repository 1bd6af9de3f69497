"""The splits that a search works on, on the device as one tensor each. The test split is in ``vault``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.data.sources import Source, read_pool
from trainables.settings import DataSettings


@dataclass(frozen=True)
class Split:
    """Images and labels of one split on one device.

    Args:
        images: fp32 in [0, 1], shape (n, c, h, w), channels last in memory.
        labels: int64, shape (n,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice) -> Split:
        return Split(self.images[index], self.labels[index])


def load_splits(settings: DataSettings, device: torch.device | str = "cpu") -> dict[str, Split]:
    """The training and the validation split, each moved to the device once. No test image is read.

    Any prefix of a split holds (nearly) the classes' shares of the whole, so that attacking the first images is
    attacking a stratified sample.

    Args:
        settings: Data set, sizes and the seed of the split.
        device: Where the tensors live.

    Returns:
        ``train`` and ``validation``.

    Raises:
        DataMissing: The files are neither there nor to be downloaded.
        ValueError: A size is larger than what there is.
    """
    pool = read_pool(settings)
    size = settings.validation_size
    return {"train": to_device(pool[size:], device), "validation": to_device(pool[:size], device)}


def to_device(source: Source, device: torch.device | str) -> Split:
    """Images and labels as tensors.

    Args:
        source: As they come.
        device: Where the tensors live.
    """
    # Bytes travel and are widened on the device: a quarter of the traffic.
    images = torch.from_numpy(source.images).to(device).permute(0, 3, 1, 2)
    return Split(
        (images.float() / 255).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(source.labels).to(device),
    )
