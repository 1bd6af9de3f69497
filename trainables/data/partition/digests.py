"""What is known of a data set that is there: sizes and digests, and none of its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainables.data.partition.pool import read_pool
from trainables.data.partition.test_images import read_test
from trainables.settings import DataSettings


@dataclass(frozen=True)
class Prepared:
    """A data set that is there."""

    name: str
    location: str  # for people
    sizes: Mapping[str, int]  # images in ``validation`` and ``train``, and in ``test`` if that was read
    classes: int
    shape: tuple[int, int, int]  # channels, height and width of an image
    pool_digest: str  # SHA-256 of the validation and training images and their labels, in hexadecimal
    test_digest: str | None  # that of the test images, if they were read


def prepare(settings: DataSettings, *, test: bool) -> Prepared:
    """Finds a data set, downloads it if it must, checks that the splits fit, and computes digests.

    Args:
        settings: Data set, sizes and the seed of the split.
        test: Whether test images are read for their digest. A driver does so, a worker never.

    Raises:
        DataMissing, ValueError: As ``read_pool`` and ``read_test``.
    """
    reader = settings.dataset.reader(settings.root)
    sizes, test_digest = {}, None
    if test:
        held_out = read_test(settings, reader)
        sizes["test"], test_digest = len(held_out), held_out.digest()
    pool = read_pool(settings, reader)
    sizes |= {"validation": settings.validation_size, "train": len(pool) - settings.validation_size}
    height, width, channels = pool.shape
    shape = (channels, height, width)
    return Prepared(settings.name, reader.location, sizes, pool.classes, shape, pool.digest(), test_digest)
