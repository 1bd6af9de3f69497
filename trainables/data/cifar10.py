"""CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from trainables.data.contract import LabelledImages, Part
from trainables.data.files.cifar import (
    CIFAR_FOLDER,
    CIFAR_TEST_FILE,
    CIFAR_TRAINING_FILES,
    is_cifar_folder,
    read_cifar_folder,
)
from trainables.data.files.official import OfficialDataset, root_folder
from trainables.registry import register


@register("cifar10")
@dataclass(frozen=True, kw_only=True)
class Cifar10(OfficialDataset):
    """50,000 training and 10,000 test images, in the version for Python."""

    summary = "60,000 photographs of ten kinds of things, 32x32 colour"
    source = "Krizhevsky 2009, Learning multiple layers of features from tiny images"
    torchvision_class: ClassVar[str] = "CIFAR10"
    needed: ClassVar[str] = f"{CIFAR_TRAINING_FILES[0]} ... {CIFAR_TEST_FILE}"

    def folders(self, root: str | None) -> list[Path]:
        return [root_folder(root) / CIFAR_FOLDER, root_folder(root)]

    def is_complete(self, folder: Path) -> bool:
        return is_cifar_folder(folder)

    def read(self, folder: Path, part: Part) -> LabelledImages:
        return read_cifar_folder(folder, part)
