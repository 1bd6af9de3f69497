"""IDX, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from trainables.data.contract import LabelledImages, Part
from trainables.data.files.parsing import parsed

IDX_FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_CLASSES: Final = 10


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder has all four files, packed or not."""
    return all(_file(folder, name) is not None for name in IDX_FILES)


def read_idx_folder(folder: Path, part: Part) -> LabelledImages:
    """The images of the training files, or of the test files.

    Raises:
        ValueError: A file is broken.
    """
    images, labels = (_read(folder, name) for name in (IDX_FILES[:2] if part == "train" else IDX_FILES[2:]))
    return parsed(folder, lambda _: LabelledImages(images[..., np.newaxis], labels.astype(np.int64), _CLASSES))


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    return parsed(_file(folder, name) or folder / name, _parse)


def _parse(path: Path) -> npt.NDArray[np.uint8]:
    """Reads LeCun's IDX format: two zero bytes, a type (8 is uint8), the number of axes, their lengths, the values."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise ValueError("it does not begin like an IDX file of bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
