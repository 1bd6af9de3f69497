"""Reads folders of pictures. A picture is decoded only if it belongs to what is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from trainables.data.contract import Indices, LabelledImages, Part, Reader
from trainables.data.contract.reader import Choose

if TYPE_CHECKING:
    from PIL.Image import Image

# As torchvision.datasets.folder.IMG_EXTENSIONS.
EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_FOLDERS: Final[dict[Part, str]] = {"train": "train", "validation": "val", "test": "test"}
_GREY: Final = ("1", "L", "LA", "La")
_DEEP: Final = ("I", "F")  # these and I;16 have more than 8 bits, which a conversion would cut off


@dataclass(frozen=True)
class _Files:
    """The picture files of a part and their labels, in torchvision's order: by class, then by path."""

    paths: list[Path]
    labels: Indices


class PictureReader(Reader):
    """Reads ``root/CLASS/...`` or ``root/{train,val,test}/CLASS/...``.

    Args:
        root: An existing folder.

    Raises:
        ValueError: It has no class folders, a class has no pictures, or ``val`` or ``test`` has a class of its own.
    """

    uniform = False

    def __init__(self, root: Path) -> None:
        folders: dict[Part, Path] = {"train": root}
        if (root / _FOLDERS["train"]).is_dir():
            folders = {part: root / name for part, name in _FOLDERS.items() if (root / name).is_dir()}
        self._classes = _class_names(folders["train"])
        self._files = {part: self._list(folder, whole=part == "train") for part, folder in folders.items()}
        super().__init__(str(root), tuple(folders), f"image-folder-{self._digest(root)}")

    def read(self, part: Part) -> LabelledImages:
        return self.select(part, lambda labels: np.arange(len(labels)), None)

    def select(self, part: Part, choose: Choose, size: int | None) -> LabelledImages:
        files = self._files[part]
        indices = choose(files.labels)
        images = [_decode(files.paths[index], size) for index in indices]
        shapes = {image.shape[:2]: files.paths[index] for image, index in zip(images, indices, strict=True)}
        if len(shapes) > 1:
            (first, one), (second, other), *_ = shapes.items()
            raise ValueError(
                f"data.size must be set for images of different sizes, got {one} with {first[1]}x{first[0]} pixels and "
                f"{other} with {second[1]}x{second[0]}; set for example data.size=32"
            )
        channels = max((image.shape[2] for image in images), default=1)
        pixels = np.stack([np.repeat(image, channels // image.shape[2], axis=2) for image in images])
        return LabelledImages(pixels, files.labels[indices], len(self._classes))

    def _list(self, folder: Path, *, whole: bool) -> _Files:
        """The pictures of a part; ``whole`` if each class must have some."""
        for name in _class_names(folder):
            if name not in self._classes:
                raise ValueError(
                    f"data.root must have the same classes in every split, got {folder / name} without "
                    f"{folder.parent / _FOLDERS['train'] / name}; remove it or add images to train"
                )
        paths, labels = [], []
        for label, name in enumerate(self._classes):
            pictures = list(_pictures(folder / name))
            if whole and not pictures:
                raise ValueError(
                    f"data.root must have pictures of every class, got none in {folder / name} "
                    f"({', '.join(EXTENSIONS)}); add some or remove the folder"
                )
            paths += pictures
            labels += [label] * len(pictures)
        return _Files(paths, np.array(labels, np.int64))

    def _digest(self, root: Path) -> str:
        """Changes with any file's path, size or time of change."""
        sha = hashlib.sha256()
        for part, files in self._files.items():
            for path, label in zip(files.paths, files.labels.tolist(), strict=True):
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


def _decode(path: Path, size: int | None) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """One picture, shape (h, w, 1) if it is grey and (h, w, 3) otherwise."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            pixels = _converted(picture)
            if size is not None:
                pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
            array = np.asarray(pixels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"data.root must hold readable pictures, got {path} ({error}); replace or remove it") from None
    return array.reshape(*array.shape[:2], -1)


def _converted(picture: Image) -> Image:
    mode = picture.mode
    if mode in _DEEP or mode.startswith("I;"):
        raise ValueError(f"its mode is {mode}, and only 8 bits per channel are supported")
    return picture.convert("L" if mode in _GREY else "RGB")
