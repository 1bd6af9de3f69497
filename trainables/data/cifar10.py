"""CIFAR-10, whose pickles are read without running any code that they may hold.

torchvision refuses files whose MD5 sums it does not know, and unpickles the others without any care. A file that the
user supplies goes through an unpickler here that builds byte arrays, dictionaries, lists and strings, and nothing else.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from trainables.data import LabelledImages, Part
from trainables.data._official import CLASSES, OfficialDataset, readable
from trainables.registry import register

TRAINING_FILES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE: Final = "test_batch"


@register("cifar10")
@dataclass(frozen=True, kw_only=True)
class Cifar10(OfficialDataset):
    """50,000 training and 10,000 test images, in the version for Python."""

    pool = 50000
    summary = "60,000 photographs of ten kinds of things, 32x32 colour"
    source = "Krizhevsky 2009, Learning multiple layers of features from tiny images"
    torchvision_class: ClassVar[str] = "CIFAR10"
    torchvision_folder: ClassVar[str] = "cifar-10-batches-py"
    files: ClassVar[tuple[str, ...]] = (*TRAINING_FILES, TEST_FILE)

    def read(self, folder: Path, part: Part) -> LabelledImages:
        batches = [_read_batch(folder / name) for name in (TRAINING_FILES if part == "train" else (TEST_FILE,))]
        images = np.concatenate([batch.images for batch in batches])
        return LabelledImages(images, np.concatenate([batch.labels for batch in batches]), CLASSES)


def _read_batch(path: Path) -> LabelledImages:
    with readable(path):
        # The files come from Python 2, whose strings are bytes here.
        content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
        images = np.asarray(entries["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return LabelledImages(np.ascontiguousarray(images), np.asarray(entries["labels"], np.int64), CLASSES)


class _Unpickler(pickle.Unpickler):
    """Loads dictionaries of lists, strings and byte arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _empty_array
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return _byte_type
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file holds")


def _empty_array(*_: object) -> npt.NDArray[np.uint8]:
    """What a pickled array starts from; its state (shape, type, bytes) follows in the pickle."""
    return np.empty(0, np.uint8)


def _byte_type(code: object, *_: object) -> np.dtype[np.uint8]:
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"it holds values of type {code!r} where images are bytes")
    return np.dtype(np.uint8, copy=True)  # a copy, because the pickle then sets the type's state
