"""Reads test images. An import contract says who may import this: nothing that a search could choose by."""

from __future__ import annotations

from trainables.data import LabelledImages, Part, Reader
from trainables.data.partition.pool import deal, read_pool
from trainables.settings import DataSettings


def read_test(settings: DataSettings, reader: Reader | None = None) -> LabelledImages:
    """The test images.

    Raises:
        DataMissing, ValueError: As ``read_pool``, whose arguments these are. Also if the test images have another size.
    """
    reader = reader or settings.dataset.reader(settings.root)
    part: Part = "test" if "test" in reader.parts else "train"
    images = reader.select(part, lambda labels: deal(settings, reader, part, labels)[0], settings.size)
    if reader.uniform:
        return images
    pool = read_pool(settings, reader)
    images = images.with_channels(pool.shape[2])  # as many as in the images that models are trained on
    if images.shape != pool.shape:
        raise ValueError(
            f"data must have test images of the other images' shape {pool.shape}, got {images.shape}; set data.size"
        )
    return images
