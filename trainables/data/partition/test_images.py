"""Reads test images. An import contract says who may import this: nothing that a search could choose by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.data.contract import LabelledImages, Reader
from trainables.data.partition.pool import read_pool
from trainables.data.partition.sizes import held_out, official_test_size, order

if TYPE_CHECKING:
    from trainables.settings import DataSettings


def read_test(settings: DataSettings, reader: Reader | None = None) -> LabelledImages:
    """The test images.

    Args:
        settings: Data set, sizes and the seed of the split.
        reader: The data set's reader, if it has been made already.

    Raises:
        DataMissing, ValueError: As ``read_pool``; also if test images differ from the others in size.
    """
    reader = reader or settings.dataset.reader(settings.root)
    if "test" in reader.parts:
        images = reader.select(
            "test",
            lambda labels: order(labels, settings, "test")[: official_test_size(settings, len(labels))],
            settings.size,
        )
    else:
        images = reader.select(
            "train",
            lambda labels: order(labels, settings, "train")[: held_out(settings, len(labels))],
            settings.size,
        )
    if not reader.uniform:
        images = _like(images, read_pool(settings, reader))
    return images


def _like(test: LabelledImages, pool: LabelledImages) -> LabelledImages:
    """Test images with as many channels as those that models are trained on."""
    test = test.with_channels(pool.shape[2])
    if test.shape != pool.shape:
        raise ValueError(
            f"data must have test images of the other images' shape {pool.shape}, got {test.shape}; set data.size"
        )
    return test
