"""How many images each split has, and in which order images are dealt to the splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from trainables.data.contract import Indices, Part
from trainables.data.partition.stratification import stratified_order

if TYPE_CHECKING:
    from trainables.settings import DataSettings

# The position of a part seeds its order.
_SEEDED: Final[tuple[Part, ...]] = ("train", "test", "validation")
_TEST_SHARE: Final = 10  # one image in ten, if a data set has no test part and data.test_size is not set


def order(labels: Indices, settings: DataSettings, part: Part) -> Indices:
    """The stratified order in which a part's images are dealt. No size changes who is held out before it."""
    return stratified_order(labels, np.random.default_rng([settings.seed, _SEEDED.index(part)]))


def held_out(settings: DataSettings, images: int) -> int:
    """How many of ``images`` are test images, if the data set has no test part of its own.

    Raises:
        ValueError: Too few are left for the other splits.
    """
    size = max(1, images // _TEST_SHARE) if settings.test_size is None else settings.test_size
    return _checked("test_size", size, images - 2, settings)


def official_test_size(settings: DataSettings, images: int) -> int:
    """How many of a test part's ``images`` are used.

    Raises:
        ValueError: More are asked for than there are.
    """
    return _checked("test_size", images if settings.test_size is None else settings.test_size, images, settings)


def train_size(settings: DataSettings, images: int) -> int:
    """How many of ``images`` that no other split needs are trained on.

    Raises:
        ValueError: More are asked for than there are.
    """
    return _checked("train_size", images if settings.train_size is None else settings.train_size, images, settings)


def validation_size(settings: DataSettings, limit: int) -> int:
    """How many validation images there are, of ``limit`` at most.

    Raises:
        ValueError: More are asked for.
    """
    return _checked("validation_size", settings.validation_size, limit, settings)


def _checked(field: str, size: int, limit: int, settings: DataSettings) -> int:
    if not 1 <= size <= limit:
        raise ValueError(
            f"data.{field} must be at most {max(limit, 0):,} for {settings.name} and the other splits' sizes, "
            f"got {size:,}; use fewer images"
        )
    return size
