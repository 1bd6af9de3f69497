"""Turns whatever a broken file raises into one line that names it."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def parsed(path: Path, parse: Callable[[Path], T]) -> T:
    """What ``parse`` makes of a file.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return parse(path)
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(
            f"data.root must hold readable files, got {path} ({error}); delete it and get it again"
        ) from error
