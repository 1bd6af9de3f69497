"""Arrays and tensors that user code returns, as labelled images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, get_args

import numpy as np

from trainables.data.contract.images import LabelledImages, Pixels
from trainables.data.contract.reader import Part, Reader
from trainables.settings.checks import nearest

_CLASSES: Final = "classes"


class ArraysReader(Reader):
    """Reads a mapping of part names to (images, labels).

    Images are kept as they are: uint8 of shape (n, h, w, c), which models see divided by 255, or floats in [0, 1] of
    shape (n, c, h, w), which models see unchanged. Floats are kept in single precision, in which models compute, and
    never pass through bytes.

    Args:
        name: The data set's name, for messages.
        content: ``train``, and perhaps ``validation``, ``test`` and ``classes`` (the number of classes, or their
            names; one more than the largest label if missing).

    Raises:
        ValueError: The mapping or one of its arrays is not as described.
    """

    uniform = False

    def __init__(self, name: str, content: Any) -> None:
        known = (*get_args(Part), _CLASSES)
        if not isinstance(content, Mapping):
            raise ValueError(
                f"data.name must be a factory that returns a mapping, got {type(content).__name__} from {name}; "
                'return {"train": (images, labels)}'
            )
        for key in content:
            if key not in known:
                raise ValueError(
                    f"data.name must be a factory that returns {', '.join(known)}, got {key} from {name}; "
                    f"{nearest(str(key), known)}"
                )
        if "train" not in content:
            raise ValueError(f"data.name must be a factory that returns train, got none from {name}; add it")
        super().__init__(name, tuple(part for part in get_args(Part) if part in content))
        arrays = {part: _pair(name, part, content[part]) for part in self.parts}
        classes = content.get(_CLASSES)
        if classes is None:
            classes = 1 + max(int(labels.max()) for _, labels in arrays.values())
        elif not isinstance(classes, int):
            classes = len(classes)
        try:
            self._parts = {part: LabelledImages(*pair, classes) for part, pair in arrays.items()}
        except ValueError as error:
            raise ValueError(f"data.name must be a factory of labelled images, got {name}: {error}") from None

    def read(self, part: Part) -> LabelledImages:
        return self._parts[part]


def _pair(name: str, part: Part, value: Any) -> tuple[Pixels, np.ndarray[Any, np.dtype[np.int64]]]:
    """Images and labels of one part, checked."""
    where = f"data.name must be a factory of images and labels, got {name} whose {part}"
    try:
        images, labels = (np.asarray(each.detach().cpu() if hasattr(each, "detach") else each) for each in value)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is no pair of arrays; return (images, labels)") from None
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"{where} has images of shape {images.shape}; return (n, h, w, c) bytes or (n, c, h, w) floats"
        )
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{where} has labels of shape {labels.shape} and type {labels.dtype}; return {len(images)} whole numbers"
        )
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise ValueError(f"{where} has images of type {images.dtype}; return uint8, or floats in [0, 1]")
        if not 0 <= images.min() <= images.max() <= 1:  # false for NaN too
            raise ValueError(f"{where} has values from {images.min():g} to {images.max():g}; return floats in [0, 1]")
        images = images.astype(np.float32).transpose(0, 2, 3, 1)
    return images, labels.astype(np.int64)
