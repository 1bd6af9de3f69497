"""Data sets that torchvision can download: MNIST, Fashion-MNIST and CIFAR-10, in its layout of folders.

The files are read here. torchvision itself, and with it torch, is imported only for a download.
"""

from __future__ import annotations

import gzip
import socket
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from trainables.data import DataMissing, Dataset, LabelledImages, Part, Reader
from trainables.data._files import root_folder

CLASSES: Final = 10  # of all of them
IDX_FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# torchvision's downloads have no timeout; this one lets them fail soon on a machine without a network.
_CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class OfficialDataset(Dataset):
    """A data set of official training and test files."""

    torchvision_class: ClassVar[str]  # in ``torchvision.datasets``; it downloads the data set
    torchvision_folder: ClassVar[str]  # where below its root torchvision puts the files
    files: ClassVar[tuple[str, ...]]  # their names

    @abstractmethod
    def read(self, folder: Path, part: Part) -> LabelledImages:
        """The images of a part (``train`` or ``test``), in the files' order."""

    def folders(self, root: str | None) -> list[Path]:
        """Where the files may be; a download puts them into the first."""
        base = root_folder(root)
        folders = [base / self.torchvision_folder]
        # The files of several data sets have the same names, so only a folder that the user names is trusted.
        return folders if root is None else [*folders, base]

    def locate(self, root: str | None) -> str | None:
        for folder in self.folders(root):
            if all(file_path(folder, name).is_file() for name in self.files):
                return str(folder)
        return None

    def remedy(self, root: str | None) -> str:
        return f"robustfront data prepare {self.name}" + (f" --root {root}" if root else "")

    def reader(self, root: str | None) -> Reader:
        folder = self.locate(root) or self._download(root)
        return Reader(folder, ("train", "test"), partial(self.read, Path(folder)))

    def _download(self, root: str | None) -> str:
        goal = self.folders(root)[0]
        missing = [folder for folder in (goal, *goal.parents) if not folder.exists()]
        timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_CONNECT_SECONDS)
        try:
            with redirect_stdout(sys.stderr):
                from torchvision import datasets

                getattr(datasets, self.torchvision_class)(str(root_folder(root)), download=True)
            reason = "the download is incomplete"
        except (OSError, RuntimeError) as error:
            reason = f"the download failed: {' '.join(str(error).split()) or type(error).__name__}"
        finally:
            socket.setdefaulttimeout(timeout)
        if located := self.locate(root):
            return located
        # torchvision makes its folders before it has files; empty ones only confuse.
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        folders = " and ".join(str(folder) for folder in self.folders(root))
        raise DataMissing(
            f"data.root must hold the files of {self.name} ({self.files[0]} ... {self.files[-1]}), "
            f"got none in {folders} ({reason}); get them where there is a network with: {self.remedy(root)}"
        )


@dataclass(frozen=True, kw_only=True)
class IdxDataset(OfficialDataset):
    """MNIST and its successors: four IDX files, packed or not."""

    files: ClassVar[tuple[str, ...]] = IDX_FILES

    def read(self, folder: Path, part: Part) -> LabelledImages:
        names = IDX_FILES[:2] if part == "train" else IDX_FILES[2:]
        images, labels = (_read_idx(file_path(folder, name)) for name in names)
        with readable(folder):
            return LabelledImages(images[..., np.newaxis], labels.astype(np.int64), CLASSES)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever a broken file raises into a ``ValueError`` of one line that names it."""
    try:
        yield
    except Exception as error:  # any error of gzip, pickle or numpy
        raise ValueError(
            f"data.root must hold readable files, got {path} ({error}); delete it and get it again"
        ) from error


def file_path(folder: Path, name: str) -> Path:
    """A file, or its packed version if there is only that."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Reads LeCun's IDX format: two zero bytes, a type (8 is uint8), the number of axes, their lengths, the values."""
    with readable(path):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not begin like an IDX file of bytes")
        axes = content[3]
        shape = np.frombuffer(content, ">u4", count=axes, offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
