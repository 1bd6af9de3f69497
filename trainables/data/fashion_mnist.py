"""Fashion-MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from trainables.data._official import IdxDataset
from trainables.registry import register

# Where Debian's package dataset-fashion-mnist puts its files.
DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")


@register("fashion-mnist")
@dataclass(frozen=True, kw_only=True)
class FashionMnist(IdxDataset):
    """60,000 training and 10,000 test images; Debian's package of them is found by itself."""

    pool = 60000
    summary = "70,000 pieces of clothing, 28x28 grey"
    source = (
        "Xiao, Rasul, Vollgraf 2017, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms"
    )
    torchvision_class: ClassVar[str] = "FashionMNIST"
    torchvision_folder: ClassVar[str] = "FashionMNIST/raw"

    def folders(self, root: str | None) -> list[Path]:
        folders = super().folders(root)
        return folders if root is not None else [*folders, DEBIAN_FOLDER]

    def remedy(self, root: str | None) -> str:
        return f"{super().remedy(root)}, or apt-get install dataset-fashion-mnist (then data.root={DEBIAN_FOLDER})"
