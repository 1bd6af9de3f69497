"""Data sets that torchvision can download: MNIST, Fashion-MNIST and CIFAR-10, in its layout of folders.

The files are read here. torchvision itself, and with it torch, is imported only for a download.
"""

from __future__ import annotations

import socket
import sys
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from trainables.data.contract import DataMissing, Dataset, LabelledImages, Part, Reader
from trainables.data.files.cache import cache_folder
from trainables.data.files.idx import IDX_FILES, is_idx_folder, read_idx_folder

_CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class OfficialDataset(Dataset):
    """A data set of official training and test files.

    Attributes:
        torchvision_class: Its class in ``torchvision.datasets``, which downloads it.
        needed: The files it must have, for people.
    """

    torchvision_class: ClassVar[str]
    needed: ClassVar[str]

    @abstractmethod
    def folders(self, root: str | None) -> list[Path]:
        """Where the files may be; a download puts them into the first."""

    @abstractmethod
    def is_complete(self, folder: Path) -> bool:
        """Whether a folder has all files."""

    @abstractmethod
    def read(self, folder: Path, part: Part) -> LabelledImages:
        """The images of a part (``train`` or ``test``), in the files' order."""

    def find(self, root: str | None) -> Path | None:
        """The folder that has all files, if there is one."""
        return next((folder for folder in self.folders(root) if self.is_complete(folder)), None)

    def locate(self, root: str | None) -> str | None:
        folder = self.find(root)
        return None if folder is None else str(folder)

    def remedy(self, root: str | None) -> str:
        return f"robustfront data prepare {self.name}" + (f" --root {root}" if root else "")

    def reader(self, root: str | None) -> Reader:
        return _OfficialReader(self, self.find(root) or self._download(root))

    def _download(self, root: str | None) -> Path:
        goal = self.folders(root)[0]
        missing = [folder for folder in (goal, *goal.parents) if not folder.exists()]
        try:
            with _connect_timeout(), redirect_stdout(sys.stderr):
                from torchvision import datasets

                getattr(datasets, self.torchvision_class)(str(root_folder(root)), download=True)
            reason = "the download is incomplete"
        except (OSError, RuntimeError) as error:
            reason = f"the download failed: {' '.join(str(error).split()) or type(error).__name__}"
        if folder := self.find(root):
            return folder
        # torchvision makes its folders before it has files; empty ones only confuse.
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        looked = " and ".join(str(folder) for folder in self.folders(root))
        raise DataMissing(
            f"data.root must hold the files of {self.name} ({self.needed}), got none in {looked} ({reason}); "
            f"get them where there is a network with: {self.remedy(root)}"
        )


@dataclass(frozen=True, kw_only=True)
class IdxDataset(OfficialDataset):
    """MNIST and its successors: four IDX files.

    Attributes:
        torchvision_folder: What torchvision calls its folder.
    """

    needed: ClassVar[str] = f"{IDX_FILES[0]}[.gz] ..."
    torchvision_folder: ClassVar[str]

    def folders(self, root: str | None) -> list[Path]:
        base = root_folder(root)
        folders = [base / self.torchvision_folder / "raw"]
        # The files of all IDX data sets have the same names, so only a folder that the user names is trusted.
        return folders if root is None else [*folders, base]

    def is_complete(self, folder: Path) -> bool:
        return is_idx_folder(folder)

    def read(self, folder: Path, part: Part) -> LabelledImages:
        return read_idx_folder(folder, part)


class _OfficialReader(Reader):
    def __init__(self, dataset: OfficialDataset, folder: Path) -> None:
        super().__init__(str(folder), ("train", "test"))
        self._dataset, self._folder = dataset, folder

    def read(self, part: Part) -> LabelledImages:
        return self._dataset.read(self._folder, part)


def root_folder(root: str | None) -> Path:
    """The folder of ``data.root``, or the cache's."""
    return cache_folder() / "data" if root is None else Path(root).expanduser().absolute()


@contextmanager
def _connect_timeout() -> Iterator[None]:
    """Makes torchvision's downloads, which have no timeout, fail soon on a machine without a network."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
