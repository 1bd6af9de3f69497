"""MLflow as a mirror of the ledger: the sweep is a parent run, every trial a nested child.

The Optuna study is what counts; everything here can be written again from it. So one background thread writes, keeps
only the newest state of each trial while it waits, tries again when a write fails, and repeats nothing that is there
already: a child is found by its Optuna number, an epoch by its step, a whole trial by the hash of what was written.

MLflow is imported by that thread alone (seconds, and hundreds of megabytes), never by importing this module.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import logging
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from search.tracking import view as mlflow_view
from search.tracking.view import KIND_TAG, SWEEP_KIND, SWEEP_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from analysis.records import TrialRecord

SweepStatus = Literal["FINISHED", "KILLED", "FAILED"]
_RunStatus = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]

_STATUS: Final[Mapping[str, _RunStatus]] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}

# Tags by which runs are found again and read.
NUMBER_TAG: Final = "robustfront.number"
_IDENTITY_TAG: Final = "robustfront.identity"
_STATE_TAG: Final = "robustfront.state"
_EPOCHS_TAG: Final = "robustfront.epochs"
_REVISION_TAG: Final = "robustfront.revision"
_PARENT_TAG: Final = "mlflow.parentRunId"
_NOTE_TAG: Final = "mlflow.note.content"

# What every MLflow server of the last years takes; newer ones take more.
_LONGEST_PARAM: Final = 500
_LONGEST_TAG: Final = 5000
_LONGEST_DIGEST: Final = 36
_MOST_METRICS: Final = 900  # of the 1,000 entities that one log_batch may hold
_PAGE: Final = 1000

_ROUND_SECONDS: Final = 1.0  # between two rounds of writing: epochs that end meanwhile travel together
_FIRST_RETRY_SECONDS: Final = 1.0
_LAST_RETRY_SECONDS: Final = 30.0
_CLOSING_ROUNDS: Final = 2
_CLOSE_SECONDS: Final = 20.0

_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # every failed write with all its values: the report says what was missed
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # The thread tries again itself, after it has looked whether a request came through although its answer was lost:
    # a request that is blindly repeated would create a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}

_REPLICATE: Final = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")
_ILLEGAL: Final = re.compile(r"[^/\w.\- ]")
_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ([^'\")\]]+)")
_CREDENTIALS: Final = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The data set that all trials share.

    Args:
        name: Its name.
        digest: Hash of its contents.
        source: Where it came from, for people.
        sizes: Images in each split.
    """

    name: str
    digest: str
    source: str
    sizes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class ParentInfo:
    """What MLflow shows of the sweep itself.

    Args:
        identity: Tells this sweep from an earlier one of the same name whose folder is gone; the same on resume.
        run_dir: The run's folder.
        config: The resolved configuration, as YAML.
        searched: Names of the parameters that are searched.
        objectives: Names of the objectives.
        parameters: What the parent run shows as parameters.
        trial_parameters: What every trial shows as parameters beside its own.
        dataset: The data.
        tags: Versions, commit and whatever else is worth a look.
    """

    identity: str
    run_dir: Path
    config: str
    searched: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    trial_parameters: Mapping[str, object] = field(default_factory=dict)
    dataset: DatasetInfo | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrackingReport:
    """What became of the mirror.

    Args:
        uri: The tracking URI, without a password.
        url: The sweep's page, where the URI is that of a server which was reached.
        pending: Numbers of the trials whose last state did not get through.
        complete: Whether everything else did, too: the sweep's own numbers, artifacts and status.
        error: Why not.
    """

    uri: str
    url: str | None = None
    pending: tuple[str, ...] = ()
    complete: bool = True
    error: str | None = None

    def message(self, resume: str) -> str | None:
        """One line on what MLflow misses and how it gets it; None when it has everything.

        Args:
            resume: The command that goes on with the sweep.
        """
        if self.complete:
            return None
        trials = f"{len(self.pending)} trial{'s' if len(self.pending) > 1 else ''}"
        missed = trials if self.pending else "the end of the sweep"
        return f"MLflow missed {missed} ({self.error or f'{self.uri} is too slow'}); `{resume}` writes what is missing"


class Tracker:
    """Mirrors a sweep into MLflow without ever holding it up. No method but ``close`` waits, and none raises.

    Args:
        uri: MLflow's tracking URI.
        experiment: Name of the experiment; made if it is not there.
        sweep: The sweep's name.
        artifact_root: Where a new experiment keeps its artifacts; None leaves that to the server.
    """

    def __init__(self, uri: str, experiment: str, sweep: str, *, artifact_root: Path | None = None) -> None:
        self._uri = uri
        self._experiment = experiment
        self._sweep = sweep
        # A server knows where its artifacts belong; a local folder would mean nothing to it.
        self._artifact_root = None if is_server(uri) else artifact_root
        self._changed = threading.Condition()
        self._pending: dict[tuple[str, str], Callable[[_Mirror], None]] = {}
        self._closing = False
        self._abandoned = False
        self._error: str | None = None
        self._mirror: _Mirror | None = None
        self._thread: threading.Thread | None = None

    @property
    def problem(self) -> str | None:
        """Why MLflow lags behind right now; None while all is well."""
        return self._error

    def start(self, parent: ParentInfo) -> None:
        """Begins to connect, and creates the sweep's run or finds it again."""
        assert self._thread is None, "a tracker starts once"
        mirror = _Mirror(self._uri, self._experiment, self._artifact_root, self._sweep, parent)
        self._mirror = mirror
        self._put(("sweep", self._sweep), lambda _: None)  # connecting is all there is to do
        self._thread = threading.Thread(target=self._work, args=(mirror,), name="mlflow", daemon=True)
        self._thread.start()

    def update(self, record: TrialRecord, history: Sequence[Mapping[str, float]]) -> None:
        """Shows a trial as it stands.

        Args:
            record: The trial.
            history: One mapping a finished epoch: ``epoch``, ``time`` (when it ended, Unix) and its metrics. What is
                there already is not sent again. A replicate's own metric is called ``NAME[r]``.
        """
        self._put(("trial", record.number), partial(_Mirror.trial, record=record, history=tuple(history)))

    def summary(self, metrics: Mapping[str, float], step: int, when: float) -> None:
        """Shows where the whole sweep stood.

        Args:
            metrics: Trials done, hypervolume, and so on.
            step: The x axis, never falling.
            when: Unix time, always the same for a step, so that one written twice is there once.
        """
        write = partial(_Mirror.summary, metrics=dict(metrics), step=step, when=when)
        self._put(("summary", str(step)), write)

    def artifact(self, path: Path) -> None:
        """Copies a file of the run's folder to the sweep's run, over an earlier copy."""
        self._put(("artifact", str(path)), partial(_Mirror.artifact, path=path))

    def close(self, status: SweepStatus, timeout: float = _CLOSE_SECONDS) -> TrackingReport:
        """Writes what is still to be written and the sweep's end.

        Args:
            status: How the sweep ended. Trials that still run are marked as killed; ``resume`` goes on with them.
            timeout: Seconds to wait at most.
        """
        if self._thread is None:
            return TrackingReport(shown(self._uri))
        self._put(("end", self._sweep), partial(_Mirror.end, status=status))
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            self._abandoned = True
            pending = tuple(number for kind, number in self._pending if kind == "trial")
            complete = not self._pending
        assert self._mirror is not None
        return TrackingReport(shown(self._uri), self._mirror.url, pending, complete, None if complete else self._error)

    def _put(self, key: tuple[str, str], write: Callable[[_Mirror], None]) -> None:
        with self._changed:
            self._pending[key] = write
            self._changed.notify()

    def _work(self, mirror: _Mirror) -> None:
        rest, closing_rounds = 0.0, 0
        while closing_rounds < _CLOSING_ROUNDS:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, rest)
                self._changed.wait_for(lambda: self._closing or self._pending)
                if self._closing and not self._pending:
                    return
                closing_rounds += self._closing
            if self._write_pending(mirror):
                self._error = None
                rest = _ROUND_SECONDS
            else:
                rest = min(max(2 * rest, _FIRST_RETRY_SECONDS), _LAST_RETRY_SECONDS)

    def _write_pending(self, mirror: _Mirror) -> bool:
        """Tries once to write each thing that is pending, and says whether all went through."""
        with self._changed:
            keys = tuple(self._pending)
        succeeded = True
        for key in keys:
            with self._changed:
                if self._abandoned:
                    return False
                write = self._pending[key]
            try:
                mirror.connect()
            except Exception as error:  # whatever MLflow or a database driver raises: the sweep goes on
                self._error = explain(self._uri, error)
                return False
            try:
                write(mirror)
            except Exception as error:
                self._error = explain(self._uri, error)
                mirror.disconnect()
                succeeded = False
                continue
            with self._changed:
                if self._pending[key] is write:  # else a newer state arrived meanwhile
                    del self._pending[key]
        return succeeded


@dataclass
class _TrackedRun:
    """What is known to be in MLflow of one run."""

    id: str
    status: str
    parameters: set[str]
    epochs: int
    revision: str
    has_dataset: bool

    @classmethod
    def found(cls, run: Run) -> _TrackedRun:
        tags = run.data.tags
        return cls(
            id=run.info.run_id,
            status=run.info.status,
            parameters=set(run.data.params),
            epochs=int(tags.get(_EPOCHS_TAG, 0)),
            revision=tags.get(_REVISION_TAG, ""),
            has_dataset=bool(run.inputs and run.inputs.dataset_inputs),
        )


class _Mirror:
    """The writing itself. Every method may raise, and doing it again changes nothing."""

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None, sweep: str, parent: ParentInfo) -> None:
        assert "'" not in parent.identity, parent.identity
        self._uri = uri
        self._experiment = experiment
        self._artifact_root = artifact_root
        self._sweep = sweep
        self._info = parent
        self._started = time.time()
        self._client: MlflowClient | None = None
        self._experiment_id: str | None = None
        self._has_view = False
        self._parent: _TrackedRun | None = None
        self._children: dict[str, _TrackedRun] = {}

    @property
    def url(self) -> str | None:
        """The sweep's page on the server, once known."""
        if not is_server(self._uri) or self._experiment_id is None:
            return None
        return mlflow_view.sweep_url(
            shown(self._uri), self._experiment_id, self._sweep, self._info.objectives, view=self._has_view
        )

    def connect(self) -> None:
        """Finds all that is there of the sweep, in one search, and creates its parent run if there is none."""
        if self._parent is not None:
            return
        if self._client is None:
            self._client = _open(self._uri)
        self._experiment_id = self._find_experiment()
        parent, self._children = None, {}
        for run in runs_of(self._client, self._experiment_id, self._info.identity):
            number = run.data.tags.get(NUMBER_TAG)
            if (parent is not None) if number is None else (number in self._children):
                # A request to create it had come through although its answer was lost.
                self._client.delete_run(run.info.run_id)
            elif number is None:
                parent = _TrackedRun.found(run)
            else:
                self._children[number] = _TrackedRun.found(run)
        if parent is None:
            parent = self._create(self._sweep, self._started, {KIND_TAG: SWEEP_KIND})
        self._set_status(parent, "RUNNING")
        self._log(parent, parameters=self._info.parameters, tags={**self._info.tags, _NOTE_TAG: self._note()})
        self._parent = parent

    def disconnect(self) -> None:
        """Forgets what is there, so that ``connect`` looks again."""
        self._parent = None

    def trial(self, record: TrialRecord, history: Sequence[Mapping[str, float]]) -> None:
        """Brings a trial's child run up to date."""
        assert self._parent is not None
        revision = _revision(record, history)
        status = _STATUS[record.state]
        run = self._children.get(record.number)
        if run is None:
            tags = {_PARENT_TAG: self._parent.id, NUMBER_TAG: record.number}
            tags[KIND_TAG] = "trial" if record.kind == "search" else record.kind
            run = self._create(_title(record), record.started or time.time(), tags)
            self._children[record.number] = run
        elif run.revision == revision and run.status == status:
            return
        self._set_status(run, status, record.finished)
        self._log(
            run,
            metrics=[*_epoch_metrics(history, after=run.epochs), *_final_metrics(record, history)],
            parameters={**self._info.trial_parameters, **_own_parameters(record)},
            # Tags are written last: this revision there means that all the rest is.
            tags=_trial_tags(record, self._info.run_dir) | {_REVISION_TAG: revision},
        )
        run.revision = revision
        run.epochs = max([run.epochs, *(int(row["epoch"]) for row in history)])

    def summary(self, metrics: Mapping[str, float], step: int, when: float) -> None:
        """Adds a point to the parent run's curves."""
        assert self._parent is not None
        if step <= self._parent.epochs:
            return
        self._log(self._parent, metrics=_as_metrics(metrics, when, step), tags={_EPOCHS_TAG: str(step)})
        self._parent.epochs = step

    def artifact(self, path: Path) -> None:
        """Copies a file to the parent run; figures keep their folder."""
        assert self._parent is not None
        assert self._client is not None
        inside = path.is_relative_to(self._info.run_dir) and path.parent != self._info.run_dir
        folder = path.parent.relative_to(self._info.run_dir).as_posix() if inside else None
        self._client.log_artifact(self._parent.id, str(path), folder)

    def end(self, status: SweepStatus) -> None:
        """Ends the parent run, and every child that a driver left running."""
        assert self._parent is not None
        for child in self._children.values():
            if child.status == "RUNNING":
                self._set_status(child, "KILLED")
        self._set_status(self._parent, status)
        database = sqlite_file(self._uri)
        if database is not None:
            # SQLite plans MLflow's "order by metric" badly without statistics: seconds instead of a blink.
            with sqlite3.connect(database, timeout=5) as connection:
                connection.execute("ANALYZE")
            connection.close()

    def _find_experiment(self) -> str:
        assert self._client is not None
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            location = self._artifact_root.absolute().as_uri() if self._artifact_root is not None else None
            experiment_id = str(self._client.create_experiment(self._experiment, artifact_location=location))
            tags: Mapping[str, str] = {}
        else:
            experiment_id, tags = str(found.experiment_id), found.tags
        self._attach_view(experiment_id, tags)
        return experiment_id

    def _attach_view(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        assert self._client is not None
        tag = mlflow_view.view_tag(self._sweep)
        view = mlflow_view.saved_view(self._sweep, self._info.searched, self._info.objectives)
        if tags.get(tag) != view:
            from mlflow import MlflowException

            try:
                self._client.set_experiment_tag(experiment_id, tag, view)
            except MlflowException:  # an older server may find it too long; the links do without
                return
        self._has_view = True

    def _create(self, name: str, started: float, tags: Mapping[str, str]) -> _TrackedRun:
        assert self._client is not None
        assert self._experiment_id is not None
        common = {SWEEP_TAG: self._sweep, _IDENTITY_TAG: self._info.identity, "mlflow.source.name": "robustfront"}
        run = self._client.create_run(
            self._experiment_id, start_time=_milliseconds(started), tags={**common, **tags}, run_name=name
        )
        return _TrackedRun.found(run)

    def _set_status(self, run: _TrackedRun, status: _RunStatus, ended: float | None = None) -> None:
        assert self._client is not None
        if run.status == status:
            return
        if status == "RUNNING":
            self._client.update_run(run.id, status)
        else:
            self._client.set_terminated(run.id, status, _milliseconds(time.time() if ended is None else ended))
        run.status = status

    def _log(
        self,
        run: _TrackedRun,
        *,
        metrics: Sequence[Metric] = (),
        parameters: Mapping[str, object] | None = None,
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Param, RunTag

        assert self._client is not None
        if self._info.dataset is not None and not run.has_dataset:
            self._log_dataset(run, self._info.dataset)
        for first in range(0, len(metrics) - _MOST_METRICS, _MOST_METRICS):
            self._client.log_batch(run.id, metrics=metrics[first : first + _MOST_METRICS])
        rest = metrics[(len(metrics) - 1) // _MOST_METRICS * _MOST_METRICS :] if metrics else ()
        # MLflow's parameters never change; what a later driver would say differently stays as it was.
        fresh = {name: value for name, value in (parameters or {}).items() if name not in run.parameters}
        self._client.log_batch(
            run.id,
            metrics=rest,
            params=[Param(_legal(name), _text(value)[:_LONGEST_PARAM]) for name, value in fresh.items()],
            tags=[RunTag(name, value[:_LONGEST_TAG]) for name, value in tags.items()],
        )
        run.parameters.update(fresh)

    def _log_dataset(self, run: _TrackedRun, info: DatasetInfo) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        assert self._client is not None
        dataset = Dataset(
            name=info.name,
            digest=info.digest[:_LONGEST_DIGEST],
            source_type="local",
            source=json.dumps({"uri": info.source}),
            profile=json.dumps(dict(info.sizes)),
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "train, validation")])]
        self._client.log_inputs(run.id, datasets=inputs)
        run.has_dataset = True

    def _note(self) -> str:
        return f"Folder: `{self._info.run_dir}`\n\n```yaml\n{self._info.config.strip()}\n```\n"


def preload_mlflow() -> None:
    """Begins to import MLflow in the background, for a sweep that has to wait for something else (Ray's start)."""
    threading.Thread(target=_import_mlflow, name="mlflow-import", daemon=True).start()


def _import_mlflow() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    import mlflow.tracking  # noqa: F401 (which the client needs)


def _open(uri: str) -> MlflowClient:
    """Imports MLflow, quietly, and opens the store; a SQLite file that is not there yet is made."""
    _import_mlflow()
    from mlflow import MlflowClient

    database = sqlite_file(uri)
    if database is not None and not database.exists():
        _create_database(database)
    # The registry would otherwise be looked for in a default place.
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create_database(database: Path) -> None:
    """Makes MLflow's tables in a file beside the database's place, and puts it there whole.

    MLflow builds them over seconds, in steps that SQLite cannot undo. Two sweeps that do it at once, or one that is
    killed meanwhile, would leave a file that never opens again.
    """
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{database.name}.", dir=database.parent) as folder:
        made = Path(folder) / database.name
        uri = f"sqlite:///{made}"
        MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)
        try:
            os.link(made, database)
        except FileExistsError:
            return  # another sweep was faster
        except OSError:  # a file system without links
            made.replace(database)


def _title(record: TrialRecord) -> str:
    if record.extends is not None:
        return f"replicates {record.number} of {record.extends}"
    if not record.is_baseline:
        return f"trial {record.number}"
    parameters = "".join(f" {name}={value:g}" for name, value in record.parameters.items())
    return f"baseline {record.number}: {record.loss}{parameters}"


def _own_parameters(record: TrialRecord) -> dict[str, object]:
    own: dict[str, object] = {"number": record.number, "loss": record.loss, **record.parameters}
    return own | ({"seeds": " ".join(map(str, record.seeds))} if record.seeds else {})


def _trial_tags(record: TrialRecord, run_dir: Path) -> dict[str, str]:
    tags = {_STATE_TAG: record.state, _EPOCHS_TAG: str(record.epochs)}
    for name in ("checkpoint", "outcomes"):
        path = getattr(record, name)
        if path is not None:
            tags[f"robustfront.{name}"] = str(run_dir / path)
    if record.constraints:
        tags["robustfront.feasible"] = str(record.feasible).lower()
    for name in ("origin", "extends", "verdict"):
        if getattr(record, name) is not None:
            tags[f"robustfront.{name}"] = getattr(record, name)
    return tags | ({"robustfront.failure": record.failure} if record.failure else {})


def _epoch_metrics(history: Iterable[Mapping[str, float]], after: int) -> Iterator[Metric]:
    for row in history:
        if row["epoch"] > after:
            values = {name: value for name, value in row.items() if name not in ("epoch", "time")}
            yield from _as_metrics(values, row["time"], int(row["epoch"]))


def _final_metrics(record: TrialRecord, history: Sequence[Mapping[str, float]]) -> list[Metric]:
    """The objectives and accuracies, at the last epoch; the time is the ledger's, so that they are never doubled."""
    if record.state != "complete":
        return []
    when = record.finished or (history[-1]["time"] if history else record.started or 0.0)
    values = {**record.objectives, **record.accuracies}
    values |= {"train_seconds": record.train_seconds, "attack_seconds": record.attack_seconds}
    if len(record.replicates) > 1:
        for index, replicate in enumerate(record.replicates):
            values |= {f"{name}[{index}]": value for name, value in replicate.items()}
    epoch = history[-1] if history else {}  # which has the last loss already
    return _as_metrics({name: value for name, value in values.items() if name not in epoch}, when, record.epochs)


def _as_metrics(values: Mapping[str, float], when: float, step: int) -> list[Metric]:
    from mlflow.entities import Metric

    return [Metric(metric_name(name), float(value), _milliseconds(when), step) for name, value in values.items()]


def metric_name(name: str) -> str:
    """A metric's name in MLflow, which knows no brackets: ``NAME[r]`` becomes ``replicate-r/NAME``."""
    replicate = _REPLICATE.fullmatch(name)
    return _legal(f"replicate-{replicate['index']}/{replicate['name']}" if replicate else name)


def _legal(name: str) -> str:
    return _ILLEGAL.sub("_", name)


def _text(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _milliseconds(when: float) -> int:
    return round(when * 1000)


def _revision(record: TrialRecord, history: Sequence[Mapping[str, float]]) -> str:
    """A hash of all that a child run shows."""
    content: list[Any] = [getattr(record, item.name) for item in fields(record)] + [len(history)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=dict).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrackedTrial:
    """A trial as MLflow shows it.

    Args:
        number: The trial's number in the ledger.
        status: MLflow's.
        epochs: The step of each point of the training loss, as often as it is there.
        metrics: Objectives and accuracies, by their names in the records.
        parameters: As text.
    """

    number: str
    status: str
    epochs: tuple[int, ...]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]


def read_tracked(uri: str, experiment: str, identity: str) -> tuple[list[str], list[TrackedTrial]]:
    """What MLflow has of a sweep. Waits for MLflow, and for its import.

    Args:
        uri: MLflow's tracking URI.
        experiment: Name of the experiment.
        identity: What the sweep's runs are known by.

    Returns:
        The status of each run of the sweep itself (one, if all is well), and its trials.

    Raises:
        Exception: Whatever MLflow raises where it cannot be read.
    """
    _import_mlflow()
    from mlflow import MlflowClient

    database = sqlite_file(uri)
    if database is not None and not database.exists():
        raise FileNotFoundError(f"{database} is not there")
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name(experiment)
    parents: list[str] = []
    trials: list[TrackedTrial] = []
    for run in runs_of(client, str(found.experiment_id), identity) if found is not None else ():
        number = run.data.tags.get(NUMBER_TAG)
        if number is None:
            parents.append(run.info.status)
            continue
        points = client.get_metric_history(run.info.run_id, "train_loss")
        steps = tuple(point.step for point in points)
        trials.append(TrackedTrial(number, run.info.status, steps, run.data.metrics, run.data.params))
    return parents, trials


def runs_of(client: MlflowClient, experiment_id: str, identity: str) -> Iterator[Run]:
    """All runs of a sweep, oldest first."""
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            f"tags.`{_IDENTITY_TAG}` = '{identity}'",
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def obstacle(uri: str) -> str | None:
    """Why a sweep could not record into MLflow now; None where it could. Waits for MLflow, and for its import.

    Args:
        uri: A server's; a database that is not there would be made.
    """
    try:
        _open(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever MLflow or a database driver raises
        return explain(uri, error)
    return None


def tracked_status(state: str) -> str:
    """How MLflow shows a trial of this state."""
    return _STATUS[state]


def is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def sqlite_file(uri: str) -> Path | None:
    """The database's file, where the URI is that of one."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy import make_url

    database = make_url(uri).database
    return Path(database) if database and database != ":memory:" else None


def credentials(uri: str) -> tuple[str, str] | None:
    """User and password for a server: those in its URI, or from where MLflow's own client takes them; None without."""
    parts = urlsplit(uri)
    if parts.username and parts.password:
        return unquote(parts.username), unquote(parts.password)
    file = configparser.ConfigParser()
    file.read(Path.home() / ".mlflow" / "credentials")
    user, password = (
        os.environ.get(name.upper()) or file.get("mlflow", name, fallback=None)
        for name in ("mlflow_tracking_username", "mlflow_tracking_password")
    )
    return (user, password) if user and password else None


def shown(uri: str) -> str:
    """The URI without its user and password."""
    parts = urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def explain(uri: str, error: Exception) -> str:
    """One line for the user; MLflow's own messages nest several exceptions and may show a password."""
    text = " ".join(str(error).split())
    errno = _ERRNO.search(text)
    if errno or "timed out" in text or "Max retries exceeded" in text:
        reason = errno[1].strip().lower() if errno else "timed out" if "timed out" in text else "no answer"
        return f"cannot reach {shown(uri)}: {reason}"
    if "error code 401" in text:
        return f"{shown(uri)} does not take the user and password in {_CREDENTIALS}"
    if "Invalid Host header" in text:
        return f"{shown(uri)} does not answer to this address: start it with that in --allowed-hosts"
    short = text.replace(uri, shown(uri))
    return f"{shown(uri)}: {short[:200] or type(error).__name__}"
