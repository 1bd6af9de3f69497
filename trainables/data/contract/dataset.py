"""The base class of data sets, and the wrapper of a user's own function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.data.contract.arrays import ArraysReader
from trainables.data.contract.reader import Reader
from trainables.registry import Component, External, Kind, external, load


class DataMissing(ValueError):
    """A data set's files are neither where they were looked for nor can they be downloaded."""


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """A data set. A subclass overrides ``load``, or ``reader`` if it can read one part without reading the others.

    Attributes:
        summary: What it holds, in half a line.
    """

    kind: ClassVar[Kind] = "data"
    summary: ClassVar[str] = ""

    def locate(self, root: str | None) -> str | None:
        """Where the data set is, for people; None if it is not on this machine.

        Args:
            root: As ``data.root``.
        """
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
        return ArraysReader(self.name, self.load(root))

    def load(self, root: str | None) -> Mapping[str, Any]:
        """All images.

        Args:
            root: As ``data.root``.

        Returns:
            ``train``, and perhaps ``validation`` and ``test``: each a pair of images and labels, as `ArraysReader`
            takes them. Also ``classes``, the number or the names of the classes, if the labels do not show it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define load or reader")


@external
@dataclass(frozen=True, kw_only=True)
class ExternalDataset(External, Dataset):
    """A user's function that returns a mapping as ``Dataset.load`` does. It gets ``root`` if it has such an argument.

    All of its images pass through memory whenever it is called, those of the test split too, though nothing keeps them.
    A `Dataset` subclass with a ``reader`` of its own can avoid that.
    """

    offered: ClassVar[tuple[str, ...]] = ("root",)  # what the function may get that is not a setting

    def load(self, root: str | None) -> Mapping[str, Any]:
        """Calls the function.

        Raises:
            ValueError: It fails, or ``data.root`` is set and it has no such argument.
        """
        if root is not None and "root" not in inspect.signature(load(self.path)).parameters:
            raise ValueError(f"data.root must be left out for {self.path}, which has no argument root, got {root}")
        try:
            content: Mapping[str, Any] = self.call(**({} if root is None else {"root": root}))
        except Exception as error:
            raise ValueError(
                f"data.name must be a factory that can be called, got {self.path} ({type(error).__name__}: {error})"
            ) from error
        return content
