"""What a storage says that does not answer, or answers no."""

from __future__ import annotations

from typing import Final

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from search.errors import first_line

STORAGE_ERRORS: Final = (SQLAlchemyError, StorageInternalError)


def may_pass(error: BaseException) -> bool:
    """Whether the database itself said so: it may be locked or away, and another try may do."""
    return isinstance(error, STORAGE_ERRORS) and isinstance(_cause(error), DBAPIError)


def storage_reason(error: BaseException) -> str:
    """What a storage error says, in one line."""
    cause = _cause(error)
    return first_line(getattr(cause, "orig", None) or cause)


def _cause(error: BaseException) -> BaseException:
    """The database driver's error below Optuna's."""
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
