"""What MLflow shows of a sweep: a parent run, with every trial as a nested child.

The run of a setting's first seed also shows the whole setting: its means over all seeds, the verdict, and whether it is
on the front. The Optuna study is what counts; everything here can be written again from it. Nothing is written twice: a
child is found by its Optuna number, an epoch by its step, a whole trial by the hash of what was written.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from analysis.records import value_text
from search.config import sqlite_file
from search.tracking.client import IDENTITY_TAG, NUMBER_TAG, open_client, runs_of
from search.tracking.view import (
    ABOVE_KIND,
    FRONT_TAG,
    KIND_TAG,
    SEEDS_TAG,
    STATE_TAG,
    SWEEP_KIND,
    SWEEP_TAG,
    VERDICT_TAG,
    VERIFIED_METRIC,
    saved_views,
    setting_metric,
)
from trainables.metrics import CLAIMED, ROBUST

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Run

    from analysis.records import TrialRecord

SweepStatus = Literal["FINISHED", "KILLED", "FAILED"]
_RunStatus = Literal["RUNNING", "FINISHED", "KILLED", "FAILED"]

# How MLflow shows a trial, by the state of its record.
STATUS: Final[Mapping[str, _RunStatus]] = {
    "running": "RUNNING",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}

_EPOCHS_TAG: Final = "robustfront.epochs"
_REVISION_TAG: Final = "robustfront.revision"
_PARENT_TAG: Final = "mlflow.parentRunId"
_NOTE_TAG: Final = "mlflow.note.content"
_EXPERIMENT_KIND_TAG: Final = "mlflow.experimentKind"
_TABLES_TAG: Final = "mlflow.loggedArtifacts"
FRONT_TABLE: Final = "front.json"
UNVERIFIED: Final = "claimed"  # in place of a verdict

# Limits of the MLflow servers of the last years, in characters; newer ones accept more.
_LONGEST_PARAM, _LONGEST_TAG, _LONGEST_DIGEST = 500, 5000, 36
_DECIMALS: Final = 4
_MOST_METRICS: Final = 900  # of the 1,000 entities allowed in one log_batch

_REPLICATE: Final = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")
_ILLEGAL: Final = re.compile(r"[^/\w.\- ]")


@dataclass(frozen=True, kw_only=True)
class ParentInfo:
    """What MLflow shows of the sweep itself."""

    identity: str  # tells this sweep from an earlier one of the same name whose folder is gone; resuming keeps it
    run_dir: Path
    config: str  # as YAML
    searched: tuple[str, ...]  # names of the searched parameters
    objectives: tuple[str, ...]  # their names in MLflow
    parameters: Mapping[str, object] = field(default_factory=dict)  # of the parent run
    trial_parameters: Mapping[str, object] = field(default_factory=dict)  # of every trial, besides its own
    dataset: Mapping[str, Any] | None = None  # the manifest's ``data``
    above: str | None = None  # the name of a run that is the parent of this sweep's run, and of other sweeps' runs
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """A whole setting, as the run of its first seed shows it.

    Args:
        record: The setting with the numbers to use, of its confirmation if it was confirmed.
        step: How many complete units and audits the numbers rest on; it grows whenever they change.
    """

    record: TrialRecord
    step: int


@dataclass
class _TrackedRun:
    """What MLflow is known to have of one run."""

    id: str
    status: str
    parameters: set[str]
    epochs: int
    revision: str
    has_dataset: bool
    on_front: bool
    note: str

    @classmethod
    def of(cls, run: Run) -> _TrackedRun:
        tags = run.data.tags
        return cls(
            id=run.info.run_id,
            status=run.info.status,
            parameters=set(run.data.params),
            epochs=int(tags.get(_EPOCHS_TAG, 0)),
            revision=tags.get(_REVISION_TAG, ""),
            has_dataset=bool(run.inputs and run.inputs.dataset_inputs),
            on_front=tags.get(FRONT_TAG) == "true",
            note=tags.get(_NOTE_TAG, ""),
        )


class SweepRuns:
    """A sweep's runs in MLflow; arguments are as of ``Tracker``. Call ``connect`` before any other method.

    Every method may raise; calling it again with the same arguments changes nothing.
    """

    _experiment_id: str
    _parent: _TrackedRun
    _children: dict[str, _TrackedRun]

    def __init__(self, uri: str, experiment: str, artifact_root: Path | None, sweep: str, info: ParentInfo) -> None:
        assert "'" not in info.identity, info.identity
        self._uri, self._experiment, self._artifact_root = uri, experiment, artifact_root
        self._sweep, self._info, self._started = sweep, info, time.time()
        self._connected = False
        self._front: Collection[str] = ()

    @cached_property
    def _client(self) -> MlflowClient:
        return open_client(self._uri)

    def connect(self) -> None:
        """Finds all runs of the sweep with one search, and creates its parent run if there is none."""
        if self._connected:
            return
        self._experiment_id = self._find_experiment()
        parent, self._children = None, {}
        for run in runs_of(self._client, self._experiment_id, self._info.identity):
            number = run.data.tags.get(NUMBER_TAG)
            if (parent is not None) if number is None else (number in self._children):
                # An earlier request had created it, but its answer was lost.
                self._client.delete_run(run.info.run_id)
            elif number is None:
                parent = _TrackedRun.of(run)
            else:
                self._children[number] = _TrackedRun.of(run)
        self._parent = parent or self._create(self._sweep, self._started, {KIND_TAG: SWEEP_KIND})
        self._set_status(self._parent, "RUNNING")
        note = f"Folder: `{self._info.run_dir}`\n\n```yaml\n{self._info.config.strip()}\n```\n"
        # The summary of a sweep that has ended stays until it ends again.
        tags = {**self._info.tags, _NOTE_TAG: self._parent.note or note}
        if self._info.above is not None:
            tags[_PARENT_TAG] = self._run_above(self._info.above)
        self._log(self._parent, parameters=self._info.parameters, tags=tags)
        self._connected = True

    def disconnect(self) -> None:
        """Forgets what MLflow has, so that ``connect`` looks again."""
        self._connected = False

    def trial(
        self, record: TrialRecord, history: Sequence[Mapping[str, float]], setting: Setting | None = None
    ) -> None:
        """Brings a trial's child run up to date; ``setting`` is the one whose first unit the trial is."""
        revision = _revision(record, history, setting)
        status = STATUS[record.state]
        run = self._children.get(record.number)
        if run is None:
            tags = {_PARENT_TAG: self._parent.id, NUMBER_TAG: record.number}
            tags[KIND_TAG] = "trial" if record.kind == "search" else record.kind
            if record.number in self._front:
                tags[FRONT_TAG] = "true"
            run = self._create(_title(record), record.started or time.time(), tags)
            self._children[record.number] = run
        elif run.revision == revision and run.status == status:
            return
        self._set_status(run, status, record.finished)
        self._log(
            run,
            metrics=[
                *_epoch_metrics(history, after=run.epochs),
                *_final_metrics(record, history),
                *_as_metrics(_setting_values(setting), record.finished or 0.0, setting.step if setting else 0),
            ],
            parameters={**self._info.trial_parameters, **_own_parameters(record)},
            # Tags are written last: if this revision is there, so is all the rest.
            tags={**_trial_tags(record, self._info.run_dir), **_setting_tags(setting), _REVISION_TAG: revision},
        )
        run.revision = revision
        run.epochs = max([run.epochs, *(int(row["epoch"]) for row in history)])

    def summary(self, metrics: Mapping[str, float], step: int, when: float) -> None:
        """Adds a point to the parent run's curves. Steps must be written in ascending order."""
        if step <= self._parent.epochs:
            return
        self._log(self._parent, metrics=_as_metrics(metrics, when, step), tags={_EPOCHS_TAG: str(step)})
        self._parent.epochs = step

    def front(self, numbers: Collection[str]) -> None:
        """Marks the settings that are on the front, and no others."""
        self._front = numbers
        for number, run in self._children.items():
            if run.on_front != (number in numbers):
                self._client.set_tag(run.id, FRONT_TAG, str(not run.on_front).lower())
                run.on_front = not run.on_front

    def results(self, summary: str, table: str) -> None:
        """Describes the sweep's run by its summary (Markdown), and logs the front as a table.

        ``table`` is JSON as from ``DataFrame.to_json(orient="split")``. MLflow's own ``log_table`` would append it to
        an earlier one.
        """
        self._client.log_text(self._parent.id, table, FRONT_TABLE)
        tables = json.dumps([{"path": FRONT_TABLE, "type": "table"}])
        self._log(self._parent, tags={_NOTE_TAG: summary, _TABLES_TAG: tables})

    def artifact(self, path: Path) -> None:
        """Copies a file to the parent run; figures keep their folder."""
        inside = path.is_relative_to(self._info.run_dir) and path.parent != self._info.run_dir
        folder = path.parent.relative_to(self._info.run_dir).as_posix() if inside else None
        self._client.log_artifact(self._parent.id, str(path), folder)

    def end(self, status: SweepStatus) -> None:
        """Ends the parent run and every child that is still running."""
        for child in self._children.values():
            if child.status == "RUNNING":
                self._set_status(child, "KILLED")
        self._set_status(self._parent, status)
        database = sqlite_file(self._uri)
        if database is not None:
            # Without statistics SQLite plans MLflow's "order by metric" badly, and it takes seconds.
            with sqlite3.connect(database, timeout=5) as connection:
                connection.execute("ANALYZE")
            connection.close()

    def _find_experiment(self) -> str:
        """The experiment's id. The sweep's views are saved in the experiment, if the server takes it."""
        experiment = self._client.get_experiment_by_name(self._experiment)
        tags: Mapping[str, str] = {} if experiment is None else experiment.tags
        if experiment is None:
            location = self._artifact_root.absolute().as_uri() if self._artifact_root is not None else None
            experiment_id = str(self._client.create_experiment(self._experiment, artifact_location=location))
        else:
            experiment_id = str(experiment.experiment_id)
        wanted = saved_views(self._sweep, self._info.searched, self._info.objectives)
        if _EXPERIMENT_KIND_TAG not in tags:  # else MLflow's pages are those for language models
            wanted[_EXPERIMENT_KIND_TAG] = "custom_model_development"
        changed = {tag: value for tag, value in wanted.items() if tags.get(tag) != value}
        if changed:
            from mlflow import MlflowException

            with suppress(MlflowException):  # too long for some older servers; the links work without them
                for tag, value in changed.items():
                    self._client.set_experiment_tag(experiment_id, tag, value)
        return experiment_id

    def _run_above(self, name: str) -> str:
        """The id of the run above this sweep's; the first sweep below it creates it."""
        condition = f"tags.`{KIND_TAG}` = '{ABOVE_KIND}' AND tags.`{SWEEP_TAG}` = '{name}'"
        runs = self._client.search_runs([self._experiment_id], condition, max_results=1)
        if runs:
            return str(runs[0].info.run_id)
        tags = {KIND_TAG: ABOVE_KIND, SWEEP_TAG: name, "mlflow.source.name": "robustfront"}
        run = self._client.create_run(self._experiment_id, tags=tags, run_name=name)
        self._client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _create(self, name: str, started: float, tags: Mapping[str, str]) -> _TrackedRun:
        common = {SWEEP_TAG: self._sweep, IDENTITY_TAG: self._info.identity, "mlflow.source.name": "robustfront"}
        run = self._client.create_run(
            self._experiment_id, start_time=_milliseconds(started), tags={**common, **tags}, run_name=name
        )
        return _TrackedRun.of(run)

    def _set_status(self, run: _TrackedRun, status: _RunStatus, ended: float | None = None) -> None:
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

        if self._info.dataset is not None and not run.has_dataset:
            self._client.log_inputs(run.id, datasets=[dataset_input(self._info.dataset)])
            run.has_dataset = True
        for first in range(0, len(metrics) - _MOST_METRICS, _MOST_METRICS):
            self._client.log_batch(run.id, metrics=metrics[first : first + _MOST_METRICS])
        rest = metrics[(len(metrics) - 1) // _MOST_METRICS * _MOST_METRICS :] if metrics else ()
        # MLflow's parameters cannot change: a later driver keeps the old values.
        texts = {_legal(name): parameter_text(value) for name, value in (parameters or {}).items()}
        fresh = {name: text for name, text in texts.items() if name not in run.parameters}
        self._client.log_batch(
            run.id,
            metrics=rest,
            params=[Param(name, text) for name, text in fresh.items()],
            tags=[RunTag(name, value[:_LONGEST_TAG]) for name, value in tags.items()],
        )
        run.parameters.update(fresh)


def dataset_input(data: Mapping[str, Any]) -> DatasetInput:
    """The data set of a run, from the manifest's ``data``."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=data["name"],
        digest=data["sha256"][:_LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": data["location"]}),
        profile=json.dumps(data["sizes"]),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "train, validation")])


def _title(record: TrialRecord) -> str:
    parameters = " ".join(f"{name}={value_text(value)}" for name, value in record.parameters.items())
    if record.is_baseline:
        return f"baseline {record.number}: {record.loss} {parameters}".strip()
    what = f"trial {record.number}" if record.extends is None else f"{record.number} of {record.extends}"
    return f"{what}: {parameters or record.loss}"


def _own_parameters(record: TrialRecord) -> dict[str, object]:
    own = {"number": record.number, "loss": record.loss, "defence": record.defence}
    seeds = {"seeds": " ".join(map(str, record.seeds))} if record.seeds else {}
    return {**own, **record.parameters, **seeds}


def _trial_tags(record: TrialRecord, run_dir: Path) -> dict[str, str]:
    optional = {
        "checkpoint": record.checkpoint and str(run_dir / record.checkpoint),
        "outcomes": record.outcomes and str(run_dir / record.outcomes),
        "feasible": str(record.feasible).lower() if record.constraints else None,
        "origin": record.origin,
        "extends": record.extends,
        "verdict": record.verdict,
        "failure": record.failure,
    }
    tags = {STATE_TAG: record.state, _EPOCHS_TAG: str(record.epochs)}
    return tags | {f"robustfront.{name}": value for name, value in optional.items() if value}


def _epoch_metrics(history: Iterable[Mapping[str, float]], after: int) -> Iterator[Metric]:
    for row in history:
        if row["epoch"] > after:
            values = {name: value for name, value in row.items() if name not in ("epoch", "time")}
            yield from _as_metrics(values, row["time"], int(row["epoch"]))


def _final_metrics(record: TrialRecord, history: Sequence[Mapping[str, float]]) -> list[Metric]:
    """Objectives and accuracies at the last epoch, at the ledger's time: a second write equals the first."""
    if record.state != "complete":
        return []
    values = {**record.objectives, **record.accuracies}
    values |= {"train_seconds": record.train_seconds, "attack_seconds": record.attack_seconds}
    if len(record.replicates) > 1:
        for index, replicate in enumerate(record.replicates):
            values |= {f"{name}[{index}]": value for name, value in replicate.items()}
    epoch = history[-1] if history else {}  # it has the last loss already
    return [final_metric(record, name, value) for name, value in values.items() if name not in epoch]


def final_metric(record: TrialRecord, name: str, value: float, **links: str) -> Metric:
    """A metric of a complete trial; ``links`` lead to a model and its data set, as arguments of MLflow's ``Metric``."""
    from mlflow.entities import Metric

    when = record.finished or record.started or 0.0
    return Metric(metric_name(name), float(value), _milliseconds(when), record.epochs, **links)


def _setting_values(setting: Setting | None) -> dict[str, float]:
    """A setting's numbers by their names in MLflow: what it claims, and what an audit has verified.

    They are rounded to what MLflow's table shows without cutting it. The runs' own metrics have all digits.
    """
    if setting is None:
        return {}
    shown = setting.record.confirmed or setting.record
    values = dict(shown.objectives)
    verified = {}
    if CLAIMED in shown.accuracies and ROBUST in values:
        values[ROBUST], verified = shown.accuracies[CLAIMED], {VERIFIED_METRIC: values[ROBUST]}
    named = {setting_metric(metric_name(name)): value for name, value in values.items()} | verified
    return {name: round(value, _DECIMALS) for name, value in named.items()}


def _setting_tags(setting: Setting | None) -> dict[str, str]:
    if setting is None:
        return {}
    shown = setting.record.confirmed or setting.record
    return {VERDICT_TAG: shown.verdict or UNVERIFIED, SEEDS_TAG: str(len(shown.seeds))}


def _as_metrics(values: Mapping[str, float], when: float, step: int) -> list[Metric]:
    from mlflow.entities import Metric

    return [Metric(metric_name(name), float(value), _milliseconds(when), step) for name, value in values.items()]


def metric_name(name: str) -> str:
    """A metric's name in MLflow, which allows no brackets: ``NAME[r]`` becomes ``replicate-r/NAME``."""
    replicate = _REPLICATE.fullmatch(name)
    return _legal(f"replicate-{replicate['index']}/{replicate['name']}" if replicate else name)


def _legal(name: str) -> str:
    return _ILLEGAL.sub("_", name)


def parameter_text(value: object) -> str:
    """A parameter's value as MLflow keeps it."""
    return (repr(value) if isinstance(value, float) else str(value))[:_LONGEST_PARAM]


def _milliseconds(when: float) -> int:
    return round(when * 1000)


def _revision(record: TrialRecord, history: Sequence[Mapping[str, float]], setting: Setting | None) -> str:
    """A hash of everything that a child run shows."""
    content: list[Any] = [getattr(record, item.name) for item in fields(record)] + [len(history)]
    if setting is not None:
        content += [_setting_values(setting), _setting_tags(setting), setting.step]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=dict).encode()).hexdigest()[:16]
