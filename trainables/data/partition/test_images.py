"""Reads test images. An import contract says who may import this: nothing that a search could choose by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.data import LabelledImages, Part, Reader
from trainables.data._images import Indices
from trainables.data.partition.pool import checked_size, held_out, order, read_pool

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
    part: Part = "test" if "test" in reader.parts else "train"

    def choose(labels: Indices) -> Indices:
        images = len(labels)
        size = checked_size(settings, "test_size", images) if part == "test" else held_out(settings, images)
        return order(labels, settings, part)[:size]

    images = reader.select(part, choose, settings.size)
    return images if reader.uniform else _like(images, read_pool(settings, reader))


def _like(test: LabelledImages, pool: LabelledImages) -> LabelledImages:
    """Test images with as many channels as those that models are trained on."""
    test = test.with_channels(pool.shape[2])
    if test.shape != pool.shape:
        raise ValueError(
            f"data must have test images of the other images' shape {pool.shape}, got {test.shape}; set data.size"
        )
    return test
