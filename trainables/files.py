"""Atomic file writes: a reader sees the old file or the new one, never a part of either. And hashes of files."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path


def write(path: Path, content: bytes | str, last_check: Callable[[], None] = lambda: None) -> Path:
    """Replaces a file atomically (temporary file beside it, fsync, rename) and returns its path.

    Args:
        path: The file; its folder is made if it does not exist.
        content: Everything the file is to hold; text is written as UTF-8.
        last_check: Called just before the file is replaced; if it raises, the file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        last_check()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
