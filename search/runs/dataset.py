"""The data set of a run: found and checked before anything starts, and described for the manifest."""

from __future__ import annotations

from typing import Any

from search.errors import UserError
from trainables.data.partition.digests import prepare
from trainables.settings import DataSettings


def prepare_dataset(settings: DataSettings, *, test: bool = True) -> dict[str, Any]:
    """Makes sure that the data set exists and is large enough for its splits.

    Args:
        settings: Data set, sizes and the seed of the split.
        test: Whether the test images are hashed too, which means reading them. Only the driver of a new run does, and
            whoever is about to open the test split.

    Returns:
        The manifest's ``data``: ``name``, ``sha256`` (of the validation and training images), ``location``, ``sizes``,
        ``classes``, and with ``test`` also ``test_sha256``.

    Raises:
        UserError: It is missing, broken or too small.
    """
    try:
        prepared = prepare(settings, test=test)
    except ValueError as error:
        raise UserError(str(error)) from None
    described = {
        "name": prepared.name,
        "sha256": prepared.pool_digest,
        "location": prepared.location,
        "sizes": dict(prepared.sizes),
        "classes": prepared.classes,
    }
    return described | ({"test_sha256": prepared.test_digest} if test else {})
