"""Which images, and how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from trainables.data import Dataset
from trainables.data.mnist5k import Mnist5k
from trainables.registry import check_fields, check_type, make
from trainables.settings.checks import check_seed, count


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images, and how they are split.

    In a configuration these fields and those of the data set form one flat mapping, in which ``name`` is the data set's
    name or import path. If both have a field of the same name, it means the one here.
    """

    dataset: Dataset = field(default_factory=Mnist5k)
    root: str | None = None  # the folder of its files, ``~`` is allowed; None for the user's cache folder
    train_size: int | None = count(None)  # None for all images that the other splits leave
    validation_size: int = count(1000)  # images on which objectives are measured
    # How many of these, the last ones, the search never sees; its choice is confirmed on them.
    confirmation_size: int = count(0, least=0)
    # Images that no search reads; None for the data set's test part, or a tenth of its images if it has no such part.
    test_size: int | None = count(None)
    seed: int = 0  # of the stratified split
    augment: bool = False  # whether training images are shifted and flipped, as is usual for CIFAR-10
    size: int | None = count(None)  # all images become squares of this many pixels a side; None for images as they are

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed(self.seed)
        if self.confirmation_size >= self.validation_size:
            raise ValueError(
                f"confirmation_size must be below validation_size ({self.validation_size}), "
                f"got {self.confirmation_size}; the search needs some of the validation images"
            )

    @property
    def search_size(self) -> int:
        """The validation images that the search sees."""
        return self.validation_size - self.confirmation_size

    @property
    def name(self) -> str:
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
