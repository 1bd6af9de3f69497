"""Which images, and how they are split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trainables.settings.checks import check_choice, check_seed

DatasetName = Literal["mnist5k", "mnist", "fashion-mnist", "cifar10"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which images, and how they are split.

    Args:
        name: The data set.
        root: Folder that holds its files (torchvision's layout); None for the user's cache folder.
        train_size: Training images; None for all that the other splits leave.
        validation_size: Validation images: what the search's objectives are measured on.
        test_size: Test images; None for all there are (``mnist5k``: 500). No search ever reads them.
        seed: Seed of the stratified split.
        augment: Whether training images are shifted and flipped (the usual recipe for CIFAR-10).
    """

    name: DatasetName = "mnist5k"
    root: str | None = None
    train_size: int | None = None
    validation_size: int = 1000
    test_size: int | None = None
    seed: int = 0
    augment: bool = False

    def __post_init__(self) -> None:
        check_choice("name", self.name, get_args(DatasetName))
        for name in ("train_size", "validation_size", "test_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}; give a number of images")
        check_seed("seed", self.seed)
