"""The data set of a run: found and checked before anything starts, and described for the manifest."""

from __future__ import annotations

from typing import Any

from search.errors import UserError
from trainables.data.partition.digests import prepare
from trainables.settings import DataSettings, Problem


def prepare_dataset(settings: DataSettings, *, test: bool = True, problem: Problem | None = None) -> dict[str, Any]:
    """Checks that the data set exists, is large enough for its splits and fits the problem; a ``UserError`` if not.

    With ``test``, the test images are read for their digest. Only the driver of a new run does that, and whoever is
    about to open the test split.

    Returns:
        The manifest's ``data``: ``name``, ``sha256`` (of the validation and training images), ``location``, ``sizes``,
        ``classes``, and with ``test`` also ``test_sha256``.
    """
    try:
        prepared = prepare(settings, test=test)
        if problem is not None:
            problem.check(prepared.shape, prepared.classes)
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
