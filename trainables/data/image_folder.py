"""A folder of pictures. A picture is decoded only if it belongs to what is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from trainables.data import DataMissing, Dataset, LabelledImages, Part, Reader
from trainables.data._base import Choose
from trainables.data._files import root_folder
from trainables.data._images import Indices, Pixels
from trainables.registry import register

# As torchvision.datasets.folder.IMG_EXTENSIONS.
EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_FOLDERS: Final[dict[Part, str]] = {"train": "train", "validation": "val", "test": "test"}
_GREY: Final = ("1", "L", "LA", "La")


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
        return _PictureReader(root_folder(root))


class _PictureReader(Reader):
    def __init__(self, root: Path) -> None:
        folders: dict[Part, Path] = {"train": root}
        if (root / _FOLDERS["train"]).is_dir():
            folders = {part: root / name for part, name in _FOLDERS.items() if (root / name).is_dir()}
        self._classes = _class_names(folders["train"])
        self._files = {part: self._list(part, folder) for part, folder in folders.items()}
        super().__init__(str(root), tuple(folders), self._read, f"image-folder-{self._digest(root)}", uniform=False)

    def _read(self, part: Part) -> LabelledImages:
        return self.select(part, lambda labels: np.arange(len(labels)), None)

    def select(self, part: Part, choose: Choose, size: int | None) -> LabelledImages:
        paths, labels = self._files[part]
        indices = choose(labels)
        images = [_decode(paths[index], size) for index in indices]
        shapes = {image.shape[:2]: paths[index] for image, index in zip(images, indices, strict=True)}
        if len(shapes) > 1:
            (first, one), (second, other), *_ = shapes.items()
            raise ValueError(
                f"data.size must be set for images of different sizes, got {one} with {first[1]}x{first[0]} pixels and "
                f"{other} with {second[1]}x{second[0]}; set for example data.size=32"
            )
        channels = max((image.shape[2] for image in images), default=1)
        pixels = np.stack([np.repeat(image, channels // image.shape[2], axis=2) for image in images])
        return LabelledImages(pixels, labels[indices], len(self._classes))

    def _list(self, part: Part, folder: Path) -> tuple[list[Path], Indices]:
        """The picture files of a part and their labels, in torchvision's order: by class, then by path."""
        for name in _class_names(folder):
            if name not in self._classes:
                raise ValueError(
                    f"data.root must have the same classes in every split, got {folder / name} without "
                    f"{folder.parent / _FOLDERS['train'] / name}; remove it or add images to train"
                )
        paths, labels = [], []
        for label, name in enumerate(self._classes):
            pictures = list(_pictures(folder / name))
            if part == "train" and not pictures:
                raise ValueError(
                    f"data.root must have pictures of every class, got none in {folder / name} "
                    f"({', '.join(EXTENSIONS)}); add some or remove the folder"
                )
            paths += pictures
            labels += [label] * len(pictures)
        return paths, np.array(labels, np.int64)

    def _digest(self, root: Path) -> str:
        """Changes with any file's path, size or time of change."""
        sha = hashlib.sha256()
        for part, (paths, labels) in self._files.items():
            for path, label in zip(paths, labels.tolist(), strict=True):
                status = path.stat()
                line = f"{part}\0{label}\0{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
                sha.update(line.encode(errors="surrogateescape"))
        return sha.hexdigest()[:32]


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not names:
        raise ValueError(f"data.root must hold one folder per class, got none in {folder}; see data.name=image-folder")
    return names


def _pictures(folder: Path) -> Iterator[Path]:
    for place, _, names in sorted(os.walk(folder, followlinks=True)):
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS):
                yield Path(place) / name


def _decode(path: Path, size: int | None) -> Pixels:
    """One picture, shape (h, w, 1) if it is grey and (h, w, 3) otherwise."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode[0] in "IF":
                raise ValueError(f"its mode is {picture.mode}, and only 8 bits per channel are supported")
            pixels = picture.convert("L" if picture.mode in _GREY else "RGB")
            if size is not None:
                pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
            array = np.asarray(pixels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"data.root must hold readable pictures, got {path} ({error}); replace or remove it") from None
    return array.reshape(*array.shape[:2], -1)
