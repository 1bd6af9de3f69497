"""Seeded stratified splits, on the device as one tensor each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data.sources import Source, prepare
from trainables.data.stratification import split_indices
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


def load_splits(
    settings: DataSettings, device: torch.device | str = "cpu", names: Iterable[str] = ("train", "validation")
) -> dict[str, Split]:
    """The named splits of a data set, each moved to the device once.

    Any prefix of a split holds (nearly) the classes' shares of the whole, so that attacking the first images is
    attacking a stratified sample.

    Args:
        settings: Data set, sizes and the seed of the split.
        device: Where the tensors live.
        names: Which of ``train``, ``validation`` and ``test``; a split that is not named is never made.

    Returns:
        The splits by name.

    Raises:
        DataMissing: The files are neither there nor to be downloaded.
        ValueError: A size is larger than what there is.
    """
    prepared = prepare(settings)
    indices = split_indices(prepared, settings)
    return {
        name: _to_device(
            prepared.test if name == "test" and prepared.test else prepared.training, indices[name], device
        )
        for name in names
    }


def _to_device(source: Source, indices: npt.NDArray[np.int64], device: torch.device | str) -> Split:
    # Bytes travel and are widened on the device: a quarter of the traffic.
    images = torch.from_numpy(source.images[indices]).to(device).permute(0, 3, 1, 2)
    return Split(
        (images.float() / 255).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(source.labels[indices]).to(device),
    )
