"""Divides a data set into splits, and reads the images that a search may see."""

from __future__ import annotations

from typing import Final

import numpy as np

from trainables.data import LabelledImages, Part, Reader
from trainables.data._files import cached
from trainables.data._images import Indices, join
from trainables.settings import DataSettings

# The position of a part seeds its order.
_SEEDED: Final[tuple[Part, ...]] = ("train", "test", "validation")
_TEST_SHARE: Final = 10  # one image in ten, if a data set has no test part and data.test_size is not set


def read_pool(settings: DataSettings, reader: Reader | None = None) -> LabelledImages:
    """The validation images, ``settings.validation_size`` of them, then the training images.

    No file that holds a test image is read, unless the data set keeps all images in one file (``mnist5k``, or what a
    user's function returns). Then the test images are dropped at once, and only the others are cached, if anything is.
    ``reader`` is the data set's, if it has been made.

    Raises:
        DataMissing: The files are neither there nor can they be downloaded.
        ValueError: A file is broken, or a split is larger than what there is.
    """
    reader = reader or settings.dataset.reader(settings.root)
    rest = _candidates(settings, reader, "train")
    if "validation" not in reader.parts:
        validation = _size(settings, "validation_size", len(rest) - 1)
        return rest[: validation + _size(settings, "train_size", len(rest) - validation)]
    own = _candidates(settings, reader, "validation")
    own = own[: _size(settings, "validation_size", len(own))]
    rest = rest[: _size(settings, "train_size", len(rest))]
    channels = max(own.shape[2], rest.shape[2])
    return join(own.with_channels(channels), rest.with_channels(channels))


def stratified_order(labels: Indices, generator: np.random.Generator) -> Indices:
    """A random order in which each class is spread evenly: any prefix has (nearly) the class frequencies of the whole.

    Each class is shuffled and placed at even distances on (0, 1). Sorting by position interleaves the classes.

    Args:
        labels: Shape (n,).
        generator: Source of the randomness.

    Returns:
        A permutation of range(n). Its first j entries contain a class of n_c samples j n_c / n times, up to the number
        of classes more or fewer.
    """
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(position, kind="stable")


def deal(settings: DataSettings, reader: Reader, part: Part, labels: Indices) -> tuple[Indices, Indices]:
    """A part's test images and its other images, as indices in a stratified order that depends on the seed alone."""
    indices = stratified_order(labels, np.random.default_rng([settings.seed, _SEEDED.index(part)]))
    test_size = 0
    if part == "test":
        test_size = _size(settings, "test_size", len(labels))
    elif _has_test_images(reader, part):
        test_size = _size(settings, "test_size", len(labels) - 2, default=max(1, len(labels) // _TEST_SHARE))
    return indices[:test_size], indices[test_size:]


def _has_test_images(reader: Reader, part: Part) -> bool:
    return part == "train" and "test" not in reader.parts


def _size(settings: DataSettings, field: str, limit: int, default: int | None = None) -> int:
    """The size in a field, which must be at most ``limit``; if it is None, ``default`` or ``limit``."""
    size: int | None = getattr(settings, field)
    if size is None:
        size = limit if default is None else default
    if not 1 <= size <= limit:
        raise ValueError(
            f"data.{field} must be at most {max(limit, 0):,} for {settings.name} and the other splits' sizes, "
            f"got {size:,}; use fewer images"
        )
    return size


def _candidates(settings: DataSettings, reader: Reader, part: Part) -> LabelledImages:
    """A part's images but for its test images, through the cache if the data set is worth it."""

    def select() -> LabelledImages:
        return reader.select(part, lambda labels: deal(settings, reader, part, labels)[1], settings.size)

    if reader.cache_key is None:
        return select()
    without = f"-without-{settings.test_size or 'tenth'}" if _has_test_images(reader, part) else ""
    size = "" if settings.size is None else f"-size{settings.size}"
    return cached(f"{reader.cache_key}-seed{settings.seed}-{part}{without}{size}.npz", select)
