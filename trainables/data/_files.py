"""Where the files of data sets are, and the cache of parsed ones on this machine's disk."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs

from trainables import files as atomic
from trainables.data._images import LabelledImages

CACHE_VARIABLE: Final = "ROBUSTFRONT_CACHE"


def cache_folder() -> Path:
    """Where parsed and downloaded data sets are kept: $ROBUSTFRONT_CACHE, or the user's cache folder."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("robustfront"))


def root_folder(root: str | None) -> Path:
    """The folder of ``data.root``, or the cache's."""
    return cache_folder() / "data" if root is None else Path(root).expanduser().absolute()


def cached(name: str, make: Callable[[], LabelledImages]) -> LabelledImages:
    """Images from the cache, or made and cached.

    Args:
        name: The file's name. It must stand for the contents: a cached file is never checked against its origin.
        make: Makes them, if the cache has none or a broken file.
    """
    path = cache_folder() / name
    # A broken file surfaces as any error of zip, zlib or numpy.
    with suppress(Exception), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return LabelledImages(arrays["images"], arrays["labels"], int(arrays["classes"]))
    images = make()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images.images, labels=images.labels, classes=images.classes)
    with suppress(OSError):  # a cache that cannot be written is no reason to stop
        atomic.write(path, buffer.getvalue())
    return images
