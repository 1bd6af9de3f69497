"""Patience with a database that is locked or away for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

STORAGE_ERRORS: Final = (SQLAlchemyError, StorageInternalError)
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 8.0  # seconds

T = TypeVar("T")


def patiently(call: Callable[[], T], seconds: float, waiting: Callable[[str], None]) -> T:
    """Calls until the storage answers.

    Args:
        call: What to do. After a storage error it is done again, so a half-done one must do no harm.
        seconds: How long to try.
        waiting: Told the reason before each pause.

    Raises:
        SQLAlchemyError, StorageInternalError: The storage has not come back in time, or what it says will not change.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return call()
        except STORAGE_ERRORS as error:
            if not isinstance(_cause(error), DBAPIError) or time.monotonic() + pause > deadline:
                raise
            waiting(storage_reason(error))
        time.sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE)


def storage_reason(error: Exception) -> str:
    """What a storage error says, in one line."""
    cause = _cause(error)
    return (str(getattr(cause, "orig", None) or cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")


def _cause(error: BaseException) -> BaseException:
    """The database driver's error below Optuna's."""
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
