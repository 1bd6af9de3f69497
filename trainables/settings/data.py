"""Which images, and how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, Self, cast

from trainables import registry  # as a module: it imports this package's checks
from trainables.settings.checks import check_seed, nearest

if TYPE_CHECKING:
    from trainables.data import Dataset

_KINDS: Final[Mapping[str, Any]] = {
    "root": str | None,
    "train_size": int | None,
    "validation_size": int,
    "test_size": int | None,
    "seed": int,
    "augment": bool,
    "size": int | None,
}


def _default() -> Dataset:
    return cast("Dataset", registry.make("data", "mnist5k"))


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

    dataset: Dataset = field(default_factory=_default)
    root: str | None = None
    train_size: int | None = None
    validation_size: int = 1000
    test_size: int | None = None
    seed: int = 0
    augment: bool = False
    size: int | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            registry.check_type(name, getattr(self, name), kind)
        for name in ("train_size", "validation_size", "test_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}; give a number of images")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}; give a number of pixels")
        check_seed("seed", self.seed)

    @property
    def name(self) -> str:
        """The data set's name, or its import path."""
        return self.dataset.name

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Settings from a flat mapping of plain values, as ``to_document`` returns it.

        Raises:
            ValueError: A key is unknown, or a value is not legal.
        """
        given = dict(document)
        name = given.pop("name", _default().name)
        registry.check_type("name", name, str)
        own = {key: given.pop(key) for key in _KINDS if key in given}
        component = registry.find("data", name)
        if not issubclass(component, registry.External):
            known = ["name", *_KINDS, *(item.name for item in fields(component))]
            for key in given:
                if key not in known:
                    raise ValueError(f"{key} must be a known setting, got {given[key]}; {nearest(key, known)}")
        return cls(dataset=cast("Dataset", registry.make("data", name, given)), **own)

    def to_document(self) -> dict[str, Any]:
        """The settings as a flat mapping of plain values. Those of the data set follow its name."""
        return self.dataset.to_document() | {name: getattr(self, name) for name in _KINDS}
