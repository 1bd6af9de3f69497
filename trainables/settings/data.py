"""Which images, and how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from trainables.data import Dataset
from trainables.data.mnist5k import Mnist5k
from trainables.registry import check_fields, check_type, make
from trainables.settings.checks import check_counts, check_seed


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images, and how they are split.

    In a configuration these fields and those of the data set form one flat mapping, in which ``name`` is the data set's
    name or import path. If both have a field of the same name, it means the one here.

    Args:
        dataset: The data set with its own settings.
        root: Folder that holds its files; None for the user's cache folder. ``~`` is allowed.
        train_size: Training images; None for all that the other splits leave.
        validation_size: Validation images, on which the objectives of a search are measured.
        test_size: Test images. None for all of the data set's test part, or for a tenth of its images if it has no such
            part. No search reads them.
        seed: Seed of the stratified split.
        augment: Whether training images are shifted and flipped, as is usual for CIFAR-10.
        size: Resize all images to squares of this many pixels a side; None for the images as they are.
    """

    dataset: Dataset = field(default_factory=Mnist5k)
    root: str | None = None
    train_size: int | None = None
    validation_size: int = 1000
    test_size: int | None = None
    seed: int = 0
    augment: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_counts(self, "train_size", "validation_size", "test_size", "size")
        check_seed(self.seed)

    @property
    def name(self) -> str:
        """The data set's name, or its import path."""
        return self.dataset.name

    @classmethod
    def _own_names(cls) -> list[str]:
        return [item.name for item in fields(cls) if item.name != "dataset"]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Settings from a flat mapping of plain values, as ``to_document`` returns it.

        Raises:
            ValueError: A key is unknown, or a value is not legal.
        """
        given = {"name": Mnist5k.name, **document}
        name = given.pop("name")
        check_type("name", name, str)
        own = {key: given.pop(key) for key in cls._own_names() if key in given}
        return cls(dataset=make("data", name, given, beside=["name", *cls._own_names()]), **own)

    def to_document(self) -> dict[str, Any]:
        """The settings as a flat mapping of plain values. Those of the data set follow its name."""
        return self.dataset.to_document() | {name: getattr(self, name) for name in self._own_names()}
