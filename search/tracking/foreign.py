"""Reads someone else's MLflow experiment: its runs are the trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from analysis.records import State
from search.config import Source, sqlite_file
from search.errors import UserError
from search.runs.foreign import ForeignStudy, ForeignTrial
from search.tracking.client import client_of, explain, is_server, shown
from trainables.settings.checks import nearest
from trainables.settings.space import Value

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_STATES: Final[dict[str, State]] = {"FINISHED": "complete", "RUNNING": "running", "SCHEDULED": "running"}
_PARENT: Final = "mlflow.parentRunId"
_PAGE: Final = 1000

_Number = TypeVar("_Number", int, float)


def read_experiment(uri: str, name: str) -> ForeignStudy:
    """Reads the runs of an experiment that are not the parents of others.

    Raises:
        UserError: Nothing answers at the URI, or it has no experiment of this name.
    """
    _check_exists(uri)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client = client_of(uri)
        known = {each.name: each.experiment_id for each in client.search_experiments()}
        if name not in known:
            raise UserError(
                f"EXPERIMENT must be an experiment at {shown(uri)}, got {name}; {nearest(name, list(known))}"
            )
        runs = list(_runs(client, known[name]))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise UserError(f"URI must be an MLflow store that answers; {explain(uri, error)}") from None
    parents = {run.data.tags[_PARENT] for run in runs if _PARENT in run.data.tags}
    trials = [run for run in runs if run.info.run_id not in parents]
    columns = {key: [run.data.params.get(key) for run in trials] for key in _names(run.data.params for run in trials)}
    parameters = {key: _parsed(texts) for key, texts in columns.items()}
    left_out = len(runs) - len(trials)
    return ForeignStudy(
        source=Source(kind="mlflow", url=shown(uri), study=name),
        directions=dict.fromkeys(_names(run.data.metrics for run in trials)),
        domains=None,
        trials=[
            _trial(at, run, name, {key: value for key, each in parameters.items() if (value := each[at]) is not None})
            for at, run in enumerate(trials)
        ],
        notes=[f"Left out: the runs that are parents of others ({left_out})."] if left_out else [],
    )


def _check_exists(uri: str) -> None:
    """Refuses what MLflow would create or fill with its own tables."""
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.exc import SQLAlchemyError

    if is_server(uri) or not urlsplit(uri).scheme or uri.startswith(("file:", "databricks")):
        return
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise UserError(f"URI must be that of an existing database, got {shown(uri)}; correct the path")
    try:
        engine = create_engine(uri)
        has_tables = inspect(engine).has_table("experiments")
        engine.dispose()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise UserError(f"URI must be an MLflow store that answers; {explain(uri, error)}") from None
    if not has_tables:
        raise UserError(f"URI must be a database with MLflow's experiments, got {shown(uri)} without any; correct it")


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    """All runs of an experiment that are not deleted, oldest first."""
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id], max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _names(mappings: Any) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _parsed(texts: Sequence[str | None]) -> list[Value | None]:
    """A parameter's values, which MLflow stores as text: numbers where all are; None where a run has none."""
    return _all(int, texts) or _all(float, texts) or list(texts)


def _all(number: Callable[[str], _Number], texts: Sequence[str | None]) -> list[Value | None] | None:
    try:
        values = [None if text is None else number(text) for text in texts]
    except ValueError:
        return None
    return None if any(value is not None and not math.isfinite(value) for value in values) else list(values)


def _trial(number: int, run: Run, experiment: str, parameters: dict[str, Value]) -> ForeignTrial:
    state = _STATES.get(run.info.status, "failed")
    return ForeignTrial(
        number=number,
        origin=f"{experiment}/{run.info.run_id}",
        state=state,
        parameters=parameters,
        values=dict(run.data.metrics) if state == "complete" else {},
        started=run.info.start_time / 1000 if run.info.start_time else None,
        finished=run.info.end_time / 1000 if run.info.end_time else None,
        failure=f"the run is {run.info.status}" if state == "failed" else None,
    )
