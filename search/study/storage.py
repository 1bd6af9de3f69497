"""Optuna's storage: how it is opened, what its errors mean, and the studies of a sweep in it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final, Literal

import optuna
from alembic.migration import MigrationContext
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError

from analysis.records import BASELINE_PREFIX, REPLICATES_PREFIX
from search.config import BASELINES_SUFFIX, REPLICATES_SUFFIX, SweepConfig, redact, without_password
from search.errors import UserError, first_line

STORAGE_ERRORS: Final = (SQLAlchemyError, StorageInternalError)
Mode = Literal["new", "resume", "read"]

# The studies of a sweep by the prefix of their trials' numbers. The search's own study is made last, because it says
# whether a name is taken.
_SUFFIXES: Final[Mapping[str, str]] = {BASELINE_PREFIX: BASELINES_SUFFIX, REPLICATES_PREFIX: REPLICATES_SUFFIX, "": ""}


class NotBegun(UserError):
    """The database answers, and has no study."""


def open_storage(
    url: str, *, create: bool = True, read_only: bool = False, argument: str = "storage.url"
) -> RDBStorage:
    """Opens Optuna's storage at an SQLAlchemy URL.

    Only a driver may ``create`` missing tables: two processes that do so at once collide. If it is ``read_only``, the
    database itself refuses every write. Messages call the URL by the name of the ``argument`` that it comes from.

    Raises:
        UserError: The URL is malformed or nothing answers there.
    """
    options, shown = dict[str, Any](pool_pre_ping=True), without_password(url)
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60}  # seconds to wait for another process's write
        if read_only:
            parts = make_url(url)
            read_url = parts.set(database=f"file:{parts.database}", query={"mode": "ro", "uri": "true"})
            url = read_url.render_as_string(hide_password=False)
    elif url.startswith("postgres"):
        options["connect_args"] = {"connect_timeout": 10}
        if read_only:
            options["connect_args"]["options"] = "-c default_transaction_read_only=on"
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our progress and errors say what it would log
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not create and not _is_made(url, options):
                raise _not_begun(f"nothing at {shown}")
            return RDBStorage(url, engine_kwargs=options, skip_table_creation=not create)
    except (ArgumentError, ImportError, ValueError) as error:
        fault, remedy, reason = "URL", "write for example postgresql://USER:PASSWORD@HOST/DATABASE", first_line(error)
    except STORAGE_ERRORS as error:
        if not create and isinstance(error, StorageInternalError):  # the database answers, but lacks our tables
            raise _not_begun(f"nothing at {shown}") from None
        fault, remedy = "that answers", "start it or correct the URL"
        reason = first_line(getattr(error, "orig", None) or error)
    raise UserError(f"{argument} must be a database {fault}, got {shown} ({redact(reason, url)}); {remedy}")


def _is_made(url: str, options: Mapping[str, Any]) -> bool:
    """Whether a driver has made all of Optuna's tables: it writes their version last.

    Optuna would write a missing version for a reader too, which would then collide with the driver.
    """
    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() is not None
    finally:
        engine.dispose()


def _not_begun(what: str) -> NotBegun:
    return NotBegun(f"RUN must have begun, got {what} yet; wait a moment, or begin it with `robustfront resume RUN`")


def check_free(storage: BaseStorage, name: str) -> None:
    """Raises a ``UserError`` if the storage holds a sweep of this name."""
    if {name + suffix for suffix in _SUFFIXES.values()} & set(optuna.get_all_study_names(storage)):
        raise UserError(
            f"name must be new in this storage, got {name}; resume it with `robustfront resume {name}` "
            "or choose another with --name"
        )


def open_studies(storage: BaseStorage, config: SweepConfig, mode: Mode) -> dict[str, Study]:
    """The studies of a sweep by the prefix of their trials' numbers; see `Ledger` for the modes.

    In the mode ``resume`` missing ones are made, because a driver may have died before it made all of them.
    """
    names = {prefix: config.name + suffix for prefix, suffix in _SUFFIXES.items()}
    if mode == "read":
        try:
            return {prefix: optuna.load_study(storage=storage, study_name=name) for prefix, name in names.items()}
        except (KeyError, OperationalError, ProgrammingError, StorageInternalError):
            raise _not_begun(f"{config.name} without a study") from None
    if mode == "new":
        check_free(storage, config.name)
    return {prefix: _create(storage, config, name, exists=mode == "resume") for prefix, name in names.items()}


def _create(storage: BaseStorage, config: SweepConfig, name: str, *, exists: bool) -> Study:
    directions = list(config.objectives.values())
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=exists)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(config.objectives))
    return study


def may_pass(error: BaseException) -> bool:
    """Whether the database itself raised the error: it may be locked or away, so trying again may help."""
    return isinstance(error, STORAGE_ERRORS) and isinstance(_cause(error), DBAPIError)


def storage_reason(error: BaseException) -> str:
    """What a storage error says, in one line."""
    cause = _cause(error)
    return first_line(getattr(cause, "orig", None) or cause)


def _cause(error: BaseException) -> BaseException:
    """The database driver's error below Optuna's."""
    return error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ is not None else error
