"""The images that a search may see: validation and training images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainables.data.contract import LabelledImages, Reader
from trainables.data.contract.images import join
from trainables.data.files import cached
from trainables.data.partition.sizes import held_out, order, train_size, validation_size

if TYPE_CHECKING:
    from trainables.settings import DataSettings


def read_pool(settings: DataSettings, reader: Reader | None = None) -> LabelledImages:
    """``settings.validation_size`` validation images, then the training images.

    No file that holds a test image is read, except where the data set has them in one file with the others
    (``mnist5k``, or what a user's function returns): there they are dropped at once. The first reading of such a data
    set on a machine caches the others alone, if it caches anything.

    Args:
        settings: Data set, sizes and the seed of the split.
        reader: The data set's reader, if it has been made already.

    Raises:
        DataMissing: The files are neither there nor can they be downloaded.
        ValueError: A file is broken, or a split is larger than what there is.
    """
    reader = reader or settings.dataset.reader(settings.root)
    rest = _candidates(settings, reader)
    if "validation" not in reader.parts:
        validation = validation_size(settings, len(rest) - 1)
        return rest[: validation + train_size(settings, len(rest) - validation)]
    own = _kept(
        settings,
        reader,
        "validation",
        lambda: reader.select("validation", lambda labels: order(labels, settings, "validation"), settings.size),
    )
    own = own[: validation_size(settings, len(own))]
    rest = rest[: train_size(settings, len(rest))]
    channels = max(own.shape[2], rest.shape[2])
    return join(own.with_channels(channels), rest.with_channels(channels))


def _candidates(settings: DataSettings, reader: Reader) -> LabelledImages:
    """The train part without the test images that are split off it, in the order in which they are dealt."""

    def select() -> LabelledImages:
        if "test" in reader.parts:
            return reader.select("train", lambda labels: order(labels, settings, "train"), settings.size)
        return reader.select(
            "train",
            lambda labels: order(labels, settings, "train")[held_out(settings, len(labels)) :],
            settings.size,
        )

    test = "" if "test" in reader.parts else f"-without-{settings.test_size or 'tenth'}"
    return _kept(settings, reader, f"train{test}", select)


def _kept(settings: DataSettings, reader: Reader, what: str, select: Callable[[], LabelledImages]) -> LabelledImages:
    """Through the cache, if the data set is worth it."""
    if reader.cache_key is None:
        return select()
    size = "" if settings.size is None else f"-size{settings.size}"
    return cached(f"{reader.cache_key}-seed{settings.seed}-{what}{size}.npz", select)
