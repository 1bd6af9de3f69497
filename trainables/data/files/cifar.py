"""The pickles of CIFAR-10, read without running any code that they may hold.

torchvision refuses files whose MD5 sums it does not know, and unpickles the others without any care. A file that the
user supplies goes through an unpickler here that builds byte arrays, dictionaries, lists and strings, and nothing else.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainables.data.contract import LabelledImages, Part
from trainables.data.files.parsing import parsed

CIFAR_FOLDER: Final = "cifar-10-batches-py"
CIFAR_TRAINING_FILES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))
CIFAR_TEST_FILE: Final = "test_batch"
_CLASSES: Final = 10


def is_cifar_folder(folder: Path) -> bool:
    """Whether a folder has all six files."""
    return all((folder / name).is_file() for name in (*CIFAR_TRAINING_FILES, CIFAR_TEST_FILE))


def read_cifar_folder(folder: Path, part: Part) -> LabelledImages:
    """The images of the training batches, or of the test batch.

    Raises:
        ValueError: A file is broken, or holds something other than images and labels.
    """
    names = CIFAR_TRAINING_FILES if part == "train" else (CIFAR_TEST_FILE,)
    batches = [parsed(folder / name, _parse) for name in names]
    return LabelledImages(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
        _CLASSES,
    )


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


def _empty_array(kind: object, shape: object, code: object) -> npt.NDArray[np.uint8]:  # noqa: ARG001
    """What a pickled array starts from; its state (shape, type, bytes) follows in the pickle."""
    return np.empty(0, np.uint8)


def _byte_type(code: object, align: object = 0, copy: object = 1) -> np.dtype[np.uint8]:  # noqa: ARG001
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"it holds values of type {code!r} where images are bytes")
    return np.dtype(np.uint8, copy=True)  # a copy, because the pickle then sets the type's state


def _parse(path: Path) -> LabelledImages:
    # The files come from Python 2, whose strings are bytes here.
    content = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    if not isinstance(content, dict):
        raise ValueError("it holds no dictionary")
    entries = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    images = np.asarray(entries["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return LabelledImages(np.ascontiguousarray(images), np.asarray(entries["labels"], np.int64), _CLASSES)
