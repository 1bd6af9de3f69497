"""A folder of pictures."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.data.contract import DataMissing, Dataset, Reader
from trainables.data.files.official import root_folder
from trainables.data.files.pictures import PictureReader
from trainables.registry import register


@register("image-folder")
@dataclass(frozen=True, kw_only=True)
class ImageFolder(Dataset):
    """Pictures below ``data.root``, one folder per class: ``root/CLASS/xxx.png``.

    If ``root`` has a folder ``train``, then ``train/CLASS``, ``val/CLASS`` and ``test/CLASS`` are the splits; the
    images of a missing ``val`` or ``test`` are split off those of ``train``. Otherwise all images are split.

    Which files count, and the order of classes and files, are as in torchvision.datasets.ImageFolder. If all images are
    grey they have one channel. If any is in colour, all are converted to RGB. Without ``data.size`` all must have one
    size.
    """

    summary = "your own pictures, one folder per class"
    source = "torchvision.datasets.ImageFolder"

    def locate(self, root: str | None) -> str | None:
        return str(root_folder(root)) if root is not None and root_folder(root).is_dir() else None

    def remedy(self, root: str | None) -> str:
        del root
        return "set data.root to a folder with one folder of pictures per class"

    def reader(self, root: str | None) -> Reader:
        if self.locate(root) is None:
            raise DataMissing(
                f"data.root must be a folder with one folder of pictures per class, got {root}; correct the path"
            )
        return PictureReader(root_folder(root))
