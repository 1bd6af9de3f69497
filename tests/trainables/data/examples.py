"""Files of small data sets."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from trainables.data._official import IDX_FILES
from trainables.data.cifar10 import TEST_FILE, TRAINING_FILES
from trainables.settings import DataSettings

Bytes = npt.NDArray[np.uint8]


def data(name: str = "mnist5k", **settings: Any) -> DataSettings:
    """Settings as a configuration gives them."""
    return DataSettings.from_document({"name": name, **settings})


def write_pictures(
    folder: Path, counts: dict[str, int], *, size: tuple[int, int] = (8, 6), mode: str = "RGB", seed: int = 0
) -> None:
    """Random pictures below ``folder/CLASS``.

    Args:
        folder: Made if it does not exist.
        counts: Pictures per class.
        size: Width and height.
        mode: Pillow's.
        seed: Of the pixels.
    """
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.png")


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes strings of bytes as Python 2 did, with which CIFAR's files were made."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: bytes | str) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_pickle(value: Any) -> bytes:
    file = BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_idx(folder: Path, *, packed: bool, per_class: int = 3) -> dict[str, Bytes]:
    """Four IDX files of random images; returns their content by name."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    arrays = {}
    for name in IDX_FILES:
        values = labels if "labels" in name else rng.integers(256, size=(len(labels), 28, 28), dtype=np.uint8)
        content = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
        arrays[name] = values
    return arrays


def write_cifar(folder: Path, dump: Callable[[Any], bytes], rows: int = 20) -> dict[str, Bytes]:
    """CIFAR-10's six files with few random images; returns the images (n, 3, 32, 32) by name."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    arrays = {}
    for name in (*TRAINING_FILES, TEST_FILE):
        arrays[name] = rng.integers(256, size=(rows, 3072), dtype=np.uint8)
        batch = {
            "batch_label": "training batch",
            "labels": [index % 10 for index in range(rows)],
            "data": arrays[name],
            "filenames": [f"{index}.png" for index in range(rows)],
        }
        (folder / name).write_bytes(dump(batch))
    return {name: values.reshape(-1, 3, 32, 32) for name, values in arrays.items()}
