"""The data set of a sweep, checked before anything starts and described for the manifest."""

from __future__ import annotations

from typing import Any

from search.errors import UserError
from trainables.data.sources import prepare
from trainables.settings import DataSettings


def prepare_dataset(settings: DataSettings) -> dict[str, Any]:
    """Makes sure that the data set is there and large enough for its splits.

    Returns:
        What the manifest says of it: name, digest, where it was found, and the sizes of the splits.

    Raises:
        UserError: It is missing, or too small.
    """
    try:
        prepared = prepare(settings)
    except ValueError as error:
        raise UserError(str(error)) from None
    return {
        "name": prepared.name,
        "sha256": prepared.digest,
        "location": prepared.location,
        "sizes": dict(prepared.sizes),
    }
