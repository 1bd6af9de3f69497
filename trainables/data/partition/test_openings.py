"""Opens the test split: the one call for it first writes down who opens it, when, and for which trained models.

A search that could see test images would choose by them, and the test accuracy of its choice would mean nothing.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainables.settings import DataSettings, RobustnessSettings

if TYPE_CHECKING:  # counting the openings must not import torch
    import torch

    from trainables.data.splits import Split

OPENINGS_FILE: Final = "test-openings.jsonl"


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A trained model that no longer changes."""

    checkpoint: str  # its file, or a module's import path
    sha256: str  # of the file, or without one of the module's parameters and buffers, in hexadecimal
    setting: Mapping[str, Any] | None  # the loss and its parameters; None if they are not known


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Why the test split is opened."""

    command: str  # what the user typed
    models: Sequence[Frozen]  # what is evaluated, at least one
    robustness: RobustnessSettings
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))  # ISO 8601, UTC
    machine: str = field(default_factory=platform.node)  # the host's name


def open_test_split(settings: DataSettings, opening: Opening, folder: Path, device: torch.device | str) -> Split:
    """The test split. The opening is on disk before an image is read, and stays there whatever happens next.

    Args:
        settings: Data set, sizes and the seed of the split.
        opening: Why it is opened.
        folder: The run's, or the single training's: its ``test-openings.jsonl`` gets a line.
        device: Where the tensors live.

    Raises:
        OSError: The opening cannot be written; no image has been read.
        DataMissing, ValueError: As ``read_test``.
    """
    record_opening(settings, opening, folder)

    from trainables.data.partition.test_images import read_test
    from trainables.data.splits import to_device

    return to_device(read_test(settings), device)


def record_opening(settings: DataSettings, opening: Opening, folder: Path) -> None:
    """Records an opening for images that ``open_test_split`` does not read; arguments and errors as there.

    The folder is created if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _append(folder / OPENINGS_FILE, json.dumps({**asdict(opening), "data": settings.to_document()}))


def read_openings(folder: Path) -> list[dict[str, Any]]:
    """Every opening recorded in a folder, oldest first.

    A line that a full disk or a power cut left half written is no opening: no image had been read by then.
    """
    path, openings = folder / OPENINGS_FILE, []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                openings.append(json.loads(line))
    return openings


def _append(path: Path, line: str) -> None:
    """Appends a line in one write, so that concurrent lines do not mix. It is on disk when this returns."""
    # If the file ends in half a line, this one must not be appended to it.
    whole = not path.is_file() or path.read_bytes()[-1:] in (b"", b"\n")
    content = f"{'' if whole else chr(10)}{line}\n".encode()
    with path.open("ab", buffering=0) as file:
        if file.write(content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file.fileno())
    # The file's name must last too.
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
