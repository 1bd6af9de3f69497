"""What every data set provides, and the wrapper of a user's own function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from trainables.data._images import Indices, LabelledImages, Pixels
from trainables.registry import Component, External, Kind, external, load
from trainables.settings.checks import nearest

# What a data set may come in. The images of a missing part are split off ``train``.
Part = Literal["train", "validation", "test"]
Choose = Callable[[Indices], Indices]


class DataMissing(ValueError):
    """A data set's files are neither where they were looked for nor can they be downloaded."""


@dataclass(eq=False)
class Reader:
    """Reads the parts of one data set."""

    location: str  # for people
    parts: tuple[Part, ...]  # what it comes in: ``train``, and perhaps ``validation`` and ``test``
    read: Callable[[Part], LabelledImages]  # returns all images of a part, in the data set's own order
    # A file name's beginning that stands for the contents, if images read from it are worth keeping in the cache.
    cache_key: str | None = None
    uniform: bool = True  # whether all images have one shape, whatever is selected

    def __post_init__(self) -> None:
        if "train" not in self.parts:
            raise ValueError(
                f"data.name must be a data set with a part named train, got {', '.join(self.parts) or 'none'} from "
                f"{self.location}; add it"
            )

    def select(self, part: Part, choose: Choose, size: int | None) -> LabelledImages:
        """Some images of a part, resized to ``data.size``.

        ``choose`` takes the labels of the part's images and returns the indices of the images to return, in order.
        """
        images = self.read(part)
        return images[choose(images.labels)].resized(size)


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """A data set. A subclass overrides ``load``, or ``reader`` if it can read one part without reading the others.

    The argument ``root`` of all methods is ``data.root``.
    """

    kind: ClassVar[Kind] = "data"
    summary: ClassVar[str] = ""  # what it holds, in half a line
    pool: ClassVar[int | None] = None  # its images, without those of a test part; None if only reading it tells

    def locate(self, root: str | None) -> str | None:
        """Where the data set is, for people; None if it is not on this machine."""
        return root or self.name

    def remedy(self, root: str | None) -> str:
        """What gets the data set if it is not on this machine: a command, or half a sentence."""
        del root
        return "nothing to get"

    def reader(self, root: str | None) -> Reader:
        """What reads its images. Files are found, and downloaded if they must be.

        Raises:
            DataMissing: The files are neither there nor can they be downloaded.
            ValueError: They are broken.
        """
        return _arrays_reader(self.name, self.load(root))

    def load(self, root: str | None) -> Mapping[str, Any]:
        """All images.

        Returns:
            ``train``, and perhaps ``validation`` and ``test``: each a pair of images and labels. Images are uint8 of
            shape (n, h, w, c), which models see divided by 255, or floats in [0, 1] of shape (n, c, h, w), which they
            see unchanged. Labels are whole numbers from 0. Also ``classes``, the number or the names of the classes;
            without it, their number is one more than the largest label.
        """
        raise NotImplementedError(f"{type(self).__name__} must define load or reader")


@external
@dataclass(frozen=True, kw_only=True)
class ExternalDataset(External, Dataset):
    """A user's function that returns a mapping as ``Dataset.load`` does. It gets ``root`` if it has such an argument.

    Whenever it is called, all images pass through memory, those of the test split too. A `Dataset` subclass with a
    ``reader`` of its own can avoid that.
    """

    offered: ClassVar[tuple[str, ...]] = ("root",)

    def load(self, root: str | None) -> Mapping[str, Any]:
        if root is not None and "root" not in inspect.signature(load(self.path)).parameters:
            raise ValueError(f"data.root must be left out for {self.path}, which has no argument root, got {root}")
        try:
            content: Mapping[str, Any] = self.call(**({} if root is None else {"root": root}))
        except Exception as error:
            raise ValueError(
                f"data.name must be a factory that can be called, got {self.path} ({type(error).__name__}: {error})"
            ) from error
        return content


def _arrays_reader(name: str, content: Any) -> Reader:
    """Reads what ``Dataset.load`` returns. Floats are kept in single precision, and never pass through bytes."""
    if not isinstance(content, Mapping):
        raise ValueError(
            f"data.name must be a factory that returns a mapping, got {type(content).__name__} from {name}; "
            'return {"train": (images, labels)}'
        )
    known = (*get_args(Part), "classes")
    for key in content:
        if key not in known:
            raise ValueError(
                f"data.name must be a factory that returns {', '.join(known)}, got {key} from {name}; "
                f"{nearest(str(key), known)}"
            )
    arrays = {part: _pair(name, part, content[part]) for part in get_args(Part) if part in content}
    classes = content.get("classes")
    if classes is None:
        classes = 1 + max((int(labels.max()) for _, labels in arrays.values()), default=1)
    elif not isinstance(classes, int):
        classes = len(classes)
    try:
        images = {part: LabelledImages(*pair, classes) for part, pair in arrays.items()}
    except ValueError as error:
        raise ValueError(f"data.name must be a factory of labelled images, got {name}: {error}") from None
    return Reader(name, tuple(images), images.__getitem__, uniform=False)


def _pair(name: str, part: Part, value: Any) -> tuple[Pixels, Indices]:
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
