"""Reads test images. An import contract says who may import this: nothing that a search could choose by."""

from __future__ import annotations

from trainables.data import LabelledImages, Part, Reader
from trainables.data._images import Indices
from trainables.data.partition.pool import checked_size, held_out, order, read_pool
from trainables.settings import DataSettings


def read_test(settings: DataSettings, reader: Reader | None = None) -> LabelledImages:
    """The test images.

    Raises:
        DataMissing, ValueError: As ``read_pool``, whose arguments these are; also if test images differ from the others
            in size.
    """
    reader = reader or settings.dataset.reader(settings.root)
    part: Part = "test" if "test" in reader.parts else "train"

    def choose(labels: Indices) -> Indices:
        images = len(labels)
        size = checked_size(settings, "test_size", images) if part == "test" else held_out(settings, images)
        return order(labels, settings, part)[:size]

    images = reader.select(part, choose, settings.size)
    if reader.uniform:
        return images
    pool = read_pool(settings, reader)
    images = images.with_channels(pool.shape[2])  # as many as in the images that models are trained on
    if images.shape != pool.shape:
        raise ValueError(
            f"data must have test images of the other images' shape {pool.shape}, got {images.shape}; set data.size"
        )
    return images
