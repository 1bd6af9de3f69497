"""The ledger: the Optuna studies that hold all that a sweep has tried, and the only account of it.

Study NAME is the search, study NAME-baselines the reference settings, study NAME-replicates (where they are wanted)
what the contenders among both were trained with later. Everything else (checkpoints, outcomes, MLflow runs, records)
hangs on a trial's number: ``7`` in the search, ``B0`` among the baselines, ``R0`` among the replicates. What a finished
epoch or trial gave is written here first; the rest can be rebuilt from it.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

import optuna
from alembic.migration import MigrationContext
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError, SQLAlchemyError

from analysis.hypervolume import GrowingFront
from analysis.pareto import Direction
from analysis.records import BASELINE_PREFIX, REPLICATES_PREFIX, VERIFIED, TrialRecord, is_accuracy, split_number
from search.config.schema import (
    BASELINES_SUFFIX,
    REPLICATES_SUFFIX,
    SamplerName,
    StopConfig,
    SweepConfig,
)
from search.config.urls import redact, without_password
from search.errors import UserError, first_line
from search.results.metrics import AUDIT, measured, told
from search.results.pooling import contenders
from search.study.history import MODELLED, History, recent_and_best
from search.study.samplers.all import FIRST_GENERATION, make_sampler
from search.study.stopping import Effort, reason_to_stop, wall_seconds
from trainables.candidate import Candidate

_BEGIN: Final = "wait a moment, or begin it with `robustfront resume RUN`"
_EPOCH: Final = "epoch:"
_SETTING, _RESULT, _FAILURE = "setting", "result", "failure"
_ORIGIN: Final = "origin"  # of a trial that was taken over from an earlier run
_EXTENDS: Final = "extends"  # of further replicates: whose they are, and which
# Of the search's study: when each driver began, why it asks no more, and whose trials it has taken over.
_STARTS, _STOPPED, _TAKEN_OVER = "starts", "stopped", "taken_over"
_AUDIT: Final = "audit:"  # and whose: Optuna's own trials can no longer be written to once they have ended
_STATES: Final = {
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Task:
    """A setting to be trained under a number.

    Args:
        number: The trial's number in the records (``7``, ``B0`` for a baseline, ``R0`` for further replicates).
        setting: What to train.
        orphan: Whether an earlier driver began it; its checkpoint says how far.
        replicates: Which replicates, counted from 0; the first ``train.replicates`` where it is None.
    """

    number: str
    setting: Candidate
    orphan: bool = False
    replicates: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Counts:
    """How many trials of the search, or of further replicates, stand where; ``budget`` is how many are to be finished.

    ``imported`` are those of earlier runs, which count for nothing else here.
    """

    complete: int
    pruned: int
    failed: int
    running: int
    budget: int
    imported: int = 0

    @property
    def finished(self) -> int:
        return self.complete + self.pruned


@dataclass(frozen=True)
class Origin:
    """Where a trial that was taken over comes from.

    Args:
        run: The earlier run's name.
        identity: The earlier run's own mark, for names can be used again.
        number: The trial's number there.
        checkpoint: Path of its checkpoints, relative to the new run's folder.
        outcomes: Path of its per-image outcomes, likewise.
    """

    run: str
    identity: str
    number: str
    checkpoint: str | None
    outcomes: str | None


@dataclass(frozen=True)
class EarlierTrial:
    """A complete trial of an earlier run: all that its ledger holds of it, and where it comes from."""

    origin: Origin
    attributes: Mapping[str, Any]
    started: datetime | None
    finished: datetime | None

    @classmethod
    def of(cls, trial: FrozenTrial, origin: Origin) -> EarlierTrial:
        """Takes a row of the earlier ledger; one that was taken over there keeps its first origin."""
        first = trial.user_attrs.get(_ORIGIN)
        if first is not None:
            origin = replace(origin, run=first["run"], identity=first["identity"], number=first["number"])
        return cls(origin, trial.user_attrs, trial.datetime_start, trial.datetime_complete)

    @property
    def parameters(self) -> dict[str, float]:
        return dict(self.attributes[_SETTING]["parameters"])

    @property
    def measured(self) -> dict[str, float]:
        """Every number that can be sought, as the search was told it."""
        return told(self.attributes[_RESULT])

    def fits(self, config: SweepConfig) -> bool:
        """Whether it lies in the space and measured what the search seeks."""
        ranges, parameters = config.domains, self.parameters
        wanted = {*config.objectives, *(bound.name for bound in config.bounds)}
        inside = parameters.keys() == ranges.keys() and all(
            ranges[name].contains(value) for name, value in parameters.items()
        )
        return inside and wanted <= self.measured.keys()


def open_storage(url: str, *, create: bool = True) -> RDBStorage:
    """Optuna's storage at ``url``.

    Args:
        url: SQLAlchemy's URL.
        create: Whether missing tables are made. Readers leave that to the driver: two that do so at once collide.

    Raises:
        UserError: The URL is malformed or nothing answers there.
    """
    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60}  # seconds to wait for another process's write
    elif url.startswith("postgres"):
        options["connect_args"] = {"connect_timeout": 10}
    shown = without_password(url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what it logs, our progress and errors say
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not create and not _is_made(url, options):
                raise _not_begun(shown)
            return RDBStorage(url, engine_kwargs=options, skip_table_creation=not create)
    except (ArgumentError, ImportError, ValueError) as error:
        reason = redact(first_line(error), url)
        raise UserError(
            f"storage.url must be a database URL, got {shown} ({reason}); "
            "write for example postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        if not create and isinstance(error, optuna.exceptions.StorageInternalError):  # it answers, without our tables
            raise _not_begun(shown) from None
        reason = redact(first_line(getattr(error, "orig", None) or error), url)
        raise UserError(
            f"storage.url must be a database that answers, got {shown} ({reason}); start it or correct the URL"
        ) from None


def _is_made(url: str, options: Mapping[str, Any]) -> bool:
    """Whether a driver has made all of Optuna's tables: their version is the last that it writes.

    Optuna itself writes a version that is missing, also for a reader, who would then collide with the driver.
    """
    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() is not None
    finally:
        engine.dispose()


def _not_begun(shown: str) -> UserError:
    return UserError(f"RUN must have begun, got nothing at {shown} yet; {_BEGIN}")


def check_free(storage: BaseStorage, name: str) -> None:
    """Asserts that no sweep of this name is in the storage.

    Raises:
        UserError: There is one.
    """
    if {name, name + BASELINES_SUFFIX, name + REPLICATES_SUFFIX} & set(optuna.get_all_study_names(storage)):
        raise UserError(
            f"name must be new in this storage, got {name}; go on with `robustfront resume {name}` "
            "or choose another with --name"
        )


class _Trials:
    """One study's trials: every row that has a setting.

    Args:
        study: The study.
        writer: Whether this is its only writer, who reads each trial once and then knows what it writes. Whoever only
            reads looks again every time.
    """

    def __init__(self, study: Study, *, writer: bool) -> None:
        self.study = study
        self._writer = writer
        self.read()

    def read(self) -> None:
        """Reads all that is there."""
        rows = self.study.get_trials(deepcopy=False)
        self._next_number = len(rows)
        self._trials = {trial.number: trial for trial in rows if _SETTING in trial.user_attrs}
        self._half_made = next(
            (trial for trial in rows if trial.number not in self._trials and not trial.state.is_finished()), None
        )
        self._unfinished = {number: trial for number, trial in self._trials.items() if not trial.state.is_finished()}
        finished = (trial for trial in self._trials.values() if trial.state.is_finished())
        self.ended = sorted(finished, key=lambda trial: (trial.datetime_complete, trial.number))
        self._states = Counter(trial.state for trial in self._trials.values() if _ORIGIN not in trial.user_attrs)
        self.imported = sum(_ORIGIN in trial.user_attrs for trial in self._trials.values())
        self._tried = Counter(_point(trial) for trial in self._trials.values() if trial.state != TrialState.FAIL)
        self._front: GrowingFront[FrozenTrial] = GrowingFront(_directions(self.study))
        for trial in self._trials.values():
            self._add_to_front(trial)
        self._stale = not self._writer

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around every write: what ends in an error may have come through or not, so that all is read again."""
        try:
            yield
        except BaseException:
            self._stale = True
            raise

    def keep(self, trial: FrozenTrial) -> None:
        """Takes a trial that has just begun or ended."""
        old = self._trials.get(trial.number)
        if old is not None:
            self._states[old.state] -= 1
            self._tried[_point(old)] -= old.state != TrialState.FAIL
        self._trials[trial.number] = trial
        if trial.state.is_finished():
            self.ended.append(trial)
            self._unfinished.pop(trial.number, None)
        else:
            self._unfinished[trial.number] = trial
        self._states[trial.state] += 1
        self._tried[_point(trial)] += trial.state != TrialState.FAIL
        self._add_to_front(trial)
        self._next_number = max(self._next_number, trial.number + 1)
        self._half_made = None

    @property
    def states(self) -> Counter[TrialState]:
        """How many of the run's own trials are in each state."""
        self._look_again()
        return self._states

    @property
    def unfinished(self) -> list[FrozenTrial]:
        """Those that still run."""
        self._look_again()
        return list(self._unfinished.values())

    @property
    def half_made(self) -> FrozenTrial | None:
        """The row that was begun and has no setting yet: at most one, for a driver begins one at a time."""
        self._look_again()
        return self._half_made

    @property
    def next_number(self) -> int:
        """The number of the next row."""
        self._look_again()
        return self._next_number

    def tried(self, parameters: Mapping[str, float]) -> bool:
        """Whether there is a trial with these parameters that has not failed."""
        self._look_again()
        return self._tried[tuple(sorted(parameters.items()))] > 0

    def seen_by(self, sampler: SamplerName) -> list[FrozenTrial]:
        """The trials that a sampler looks back on, by number."""
        trials, most = list(self), MODELLED.get(sampler)
        if most is None:
            return trials
        return recent_and_best(reversed(trials), self._unfinished.values(), self._front.members, most)

    def __iter__(self) -> Iterator[FrozenTrial]:
        """By number."""
        self._look_again()
        return iter(self._trials.values())

    def __getitem__(self, number: int) -> FrozenTrial:
        self._look_again()
        return self._trials[number]

    def _look_again(self) -> None:
        if self._stale:
            self.read()

    def _add_to_front(self, trial: FrozenTrial) -> None:
        feasible = all(value <= 0 for value in trial.constraints.values())
        if trial.state == TrialState.COMPLETE and feasible:
            self._front.add(trial.values, trial)


class Ledger:
    """The account of one sweep.

    Args:
        storage: Where the studies are. One in memory will do where nothing has to last.
        config: The sweep's configuration.
        mode: ``new``: the studies must not be there yet; ``resume``: what is missing is made (a driver may have died
            before it made them); ``read``: they must be there.

    Raises:
        UserError: The studies exist already, or do not.
    """

    def __init__(self, storage: BaseStorage, config: SweepConfig, mode: Literal["new", "resume", "read"]) -> None:
        self._storage, self._config = storage, config
        self._objectives = list(config.objectives)
        self._distributions = {
            name: FloatDistribution(range_.lowest, range_.high) for name, range_ in config.domains.items()
        }
        names = (config.name, config.name + BASELINES_SUFFIX)
        directions = list(config.objectives.values())
        if mode == "new":
            check_free(storage, config.name)
        try:
            if mode == "read":
                search, baselines = (optuna.load_study(storage=storage, study_name=name) for name in names)
            else:
                # The baselines' study first: the search's own, which says whether a name is taken, comes last.
                baselines, search = (
                    optuna.create_study(
                        storage=storage, study_name=name, directions=directions, load_if_exists=mode == "resume"
                    )
                    for name in reversed(names)
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    for study in (baselines, search):
                        study.set_metric_names(self._objectives)
        except (KeyError, OperationalError, ProgrammingError, optuna.exceptions.StorageInternalError):
            if mode != "read":
                raise
            raise UserError(f"RUN must have begun, got {config.name} without a study yet; {_BEGIN}") from None
        self._search = _Trials(search, writer=mode != "read")
        self._baselines = _Trials(baselines, writer=mode != "read")
        self._studies = {BASELINE_PREFIX: self._baselines, "": self._search}
        extensions = self._open_extensions(mode)
        if extensions is not None:
            self._studies[REPLICATES_PREFIX] = _Trials(extensions, writer=mode != "read")
        self._budget, self._fixed = config.budget, config.fixed_settings
        self._reads = mode == "read"
        self._audits: dict[str, Mapping[str, Any]] | None = None  # of a writer, once read
        self._check: Callable[[], None] = _never_lost
        self._orphans: list[Task] = []
        self._handed_out: set[str] = set()
        self._stopped = self._read_stop()
        self._began, self._worked_before = time.time(), 0.0
        self._effort, self._counted = Effort(config), Counter[str]()
        self._asking = False
        self._failed_before = 0

    def _open_extensions(self, mode: str) -> Study | None:
        """The study of further replicates. It comes and goes with the wish for them, but what it holds stays."""
        name = self._config.name + REPLICATES_SUFFIX
        if mode == "read" or self._config.search.replicates_for_front is None:
            try:
                return optuna.load_study(storage=self._storage, study_name=name)
            except KeyError:
                return None
        study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=list(self._config.objectives.values()),
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(self._objectives)
        return study

    @property
    def engine(self) -> Engine:
        """The database's engine, for what stands beside the studies (the lease)."""
        assert isinstance(self._storage, RDBStorage), "a ledger in memory has no database"
        return self._storage.engine

    def close(self) -> None:
        """Gives the database its connections back. Harmless: a later call opens new ones."""
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    # Reading

    def trials(self) -> list[tuple[str, FrozenTrial]]:
        """(number, trial) of every trial, baselines first, then the search's; a row without a setting yet is none."""
        return [(f"{prefix}{trial.number}", trial) for prefix, trials in self._studies.items() for trial in trials]

    def records(self) -> list[TrialRecord]:
        """Every trial as a record, baselines first."""
        audits = self.audits()
        return [self._record(number, trial, audits.get(number)) for number, trial in self.trials()]

    def record(self, number: str) -> TrialRecord:
        """One trial's record."""
        return self._record(number, self._find(number)[1], self.audits().get(number))

    def history(self, number: str) -> list[dict[str, float]]:
        """What each finished epoch of a trial gave, in order."""
        return epochs_of(self._find(number)[1])

    def measured(self, number: str) -> dict[str, float]:
        """Every number of a trial that an objective or a constraint can name; none before it was evaluated."""
        result = self._find(number)[1].user_attrs.get(_RESULT)
        return measured(result) if result else {}

    def audits(self) -> dict[str, Mapping[str, Any]]:
        """What audits said, by trial, as ``audited`` was given it."""
        if self._audits is None:
            attributes = self._search.study.user_attrs
            audits = {key.removeprefix(_AUDIT): value for key, value in attributes.items() if key.startswith(_AUDIT)}
            if self._reads:  # others write
                return audits
            self._audits = audits
        return self._audits

    def earlier_trials(self) -> list[EarlierTrial]:
        """What has been taken over from earlier runs, as ``take_over`` was given it."""
        return [
            EarlierTrial(
                Origin(**trial.user_attrs[_ORIGIN]), trial.user_attrs, trial.datetime_start, trial.datetime_complete
            )
            for trial in self._search
            if _ORIGIN in trial.user_attrs
        ]

    def counts(self) -> Counts:
        """Where the search stands; baselines and further replicates are not counted."""
        states = self._search.states
        return Counts(
            complete=states[TrialState.COMPLETE],
            pruned=states[TrialState.PRUNED],
            failed=states[TrialState.FAIL],
            running=states[TrialState.RUNNING],
            budget=self._budget,
            imported=self._search.imported,
        )

    def extensions(self) -> Counts:
        """Where the contenders' further replicates stand, one trial a contender; none is due before the search is over.

        The budget may grow: further replicates change the front.
        """
        there = self._studies.get(REPLICATES_PREFIX)
        states = Counter[TrialState]() if there is None else there.states
        complete, running = states[TrialState.COMPLETE], states[TrialState.RUNNING]
        return Counts(
            complete=complete,
            pruned=0,
            failed=states[TrialState.FAIL],
            running=running,
            budget=complete + running + len(self._due_extensions()),
        )

    def failures(self) -> int:
        """Failed trials, baselines and further replicates among them, since the ledger was adopted."""
        return self._count_failures() - self._failed_before

    @property
    def failures_exhausted(self) -> bool:
        """Whether more trials have failed than are replaced."""
        return self.failures() > self._config.resources.max_failures

    @property
    def complete(self) -> bool:
        """Whether the search is over, every baseline is there, and every contender has all its replicates."""
        extensions = self.extensions()
        return self._searched and extensions.complete == extensions.budget

    @property
    def _searched(self) -> bool:
        """Whether the budget is spent, or a criterion has ended the search, and every baseline is there."""
        counts = self.counts()
        stopped = self.stopped is not None and not counts.running
        return (stopped or counts.finished >= counts.budget) and not self._missing_baselines(finished_only=True)

    @property
    def stopped(self) -> str | None:
        """Which criterion of ``search.stop`` has ended the search, and how it was met; None where none has."""
        return self._stopped

    # Writing: the owner of the lease alone

    def adopt(self, check: Callable[[], None] | None = None) -> None:
        """Takes over what an earlier driver left: its unfinished trials are handed out again first.

        Failures of earlier drivers no longer count towards ``resources.max_failures``: whoever resumes has seen them.

        Args:
            check: Called before every write from now on; raises when the right to write is lost.
        """
        self._check = check or _never_lost
        self._check()
        self._handed_out, self._asking, self._audits = set(), False, None
        for trials in self._studies.values():
            trials.read()
        self._begin_work()
        self._find_orphans()
        self._failed_before = self._count_failures()

    @property
    def warm_started(self) -> bool:
        """Whether all that was to be taken over from earlier runs is there."""
        taken_over: list[str] = self._search.study.user_attrs.get(_TAKEN_OVER, [])
        return taken_over == self._config.search.warm_start

    def take_over(self, earlier: Sequence[EarlierTrial]) -> None:
        """Adds complete trials of earlier runs, each in one transaction; those that are there already stay as they are.

        Args:
            earlier: The trials of ``search.warm_start``, which must fit the search.
        """
        self._check()
        trials = self._search
        there = {_key(trial.user_attrs[_ORIGIN]) for trial in trials if _ORIGIN in trial.user_attrs}
        with trials.changing():
            for one in earlier:
                if _key(asdict(one.origin)) not in there:
                    trials.study.add_trial(self._taken_over(one))
        trials.read()
        trials.study.set_user_attr(_TAKEN_OVER, self._config.search.warm_start)

    def _taken_over(self, earlier: EarlierTrial) -> FrozenTrial:
        values = earlier.measured
        trial = create_trial(
            values=[float(values[name]) for name in self._objectives],
            params=earlier.parameters,
            distributions=dict(self._distributions),
            constraints=self._excesses(values),
            system_attrs=dict(FIRST_GENERATION),
            user_attrs={**earlier.attributes, _ORIGIN: asdict(earlier.origin)},
        )
        trial.datetime_start, trial.datetime_complete = earlier.started, earlier.finished
        return trial

    def ask(self) -> Task | None:
        """The next setting to train: an orphan, a missing baseline, a fixed setting, a suggestion, further replicates.

        A row that was begun and not finished (its driver died or lost the database between the suggestions) is finished
        first. The sampler is seeded by the row's number, so it suggests what it would have then.

        Returns:
            None when nothing may be started now: all of the budget is finished or running, or too much has failed.
        """
        self._check()
        if self._asking:  # the ask before ended in an error: its row may be there or not
            self._find_orphans()
        self._asking = True
        task = self._orphans.pop(0) if self._orphans else self._begin()
        if task is not None:
            self._handed_out.add(task.number)
        self._asking = False
        return task

    def report(self, number: str, metrics: Mapping[str, float]) -> None:
        """Records what one epoch gave, with the time. Reporting an epoch again (a resumed trial does) changes nothing.

        Args:
            number: The trial.
            metrics: The epoch's numbers, ``epoch`` (from 1) among them.
        """
        self._check()
        trials, trial = self._find(number)
        key = f"{_EPOCH}{int(metrics['epoch']):05d}"
        if key not in trial.user_attrs:
            self._set(trials, trial, key, {"time": time.time(), **metrics})

    def finish(self, number: str, result: Mapping[str, Any]) -> None:
        """Records a trial's result and tells its objectives and constraints; a second time changes nothing."""
        self._check()
        trials, trial = self._find(number)
        if not trial.state.is_finished():
            self._set(trials, trial, _RESULT, dict(result))
            if AUDIT in result:
                self.audited(number, result[AUDIT])
            self._tell(trials, trial, result)

    def fail(self, number: str, reason: str) -> None:
        """Records that a trial failed, and why."""
        self._check()
        trials, trial = self._find(number)
        if not trial.state.is_finished():
            self._set(trials, trial, _FAILURE, reason)
            self._end(trials, trial, TrialState.FAIL)

    def audited(self, number: str, audit: Mapping[str, Any]) -> None:
        """Records what an audit says of a complete trial, in place of an earlier one.

        Args:
            number: The trial.
            audit: ``verdict``, ``profile``, ``images`` (how many), and ``verified``, the accuracy of each replicate
                that holds on them.
        """
        self._check()
        self._audits = None
        self._search.study.set_user_attr(f"{_AUDIT}{number}", dict(audit))

    def prune(self, number: str) -> None:
        """Records that a trial was stopped early; it is not handed out again."""
        self._check()
        self._orphans = [task for task in self._orphans if task.number != number]
        trials, trial = self._find(number)
        if not trial.state.is_finished():
            self._end(trials, trial, TrialState.PRUNED)

    def _find_orphans(self) -> None:
        """Unfinished trials that nobody works on: an earlier driver's, or one whose ask ended in a storage error."""
        self._orphans = []
        for prefix, trials in self._studies.items():
            for trial in list(trials):
                number = f"{prefix}{trial.number}"
                if trial.state.is_finished() or number in self._handed_out:
                    continue
                if _RESULT in trial.user_attrs:  # its driver died between the result and its tell
                    self._tell(trials, trial, trial.user_attrs[_RESULT])
                else:
                    self._orphans.append(Task(number, _setting(trial), orphan=True, replicates=_replicates(trial)))

    def _begin(self) -> Task | None:
        missing = self._missing_baselines()
        if not self.failures_exhausted:
            if missing:
                return self._begin_fixed(BASELINE_PREFIX, missing[0])
            counts = self.counts()
            if counts.finished + counts.running < counts.budget and not self._stop():
                return self._begin_suggestion()
            due = self._due_extensions()
            if due:
                extended, replicates = due[0]
                return self._begin_fixed(REPLICATES_PREFIX, _setting(self._find(extended)[1]), extended, replicates)
        self._void_half_made()
        return None

    def _begin_work(self) -> None:
        """Notes when this driver began, and sums up how long earlier ones have been at work."""
        study = self._search.study
        self._stopped = self._read_stop()
        self._began = time.time()
        starts = [*study.user_attrs.get(_STARTS, []), self._began]
        self._worked_before = wall_seconds(starts, self._times(), self._began)
        study.set_user_attr(_STARTS, starts)

    def _times(self) -> Iterator[float]:
        """When anything was written down."""
        for _, trial in self.trials():
            yield from (epoch["time"] for epoch in epochs_of(trial))
            yield from (when.timestamp() for when in (trial.datetime_start, trial.datetime_complete) if when)

    def _stop(self) -> bool:
        """Whether a criterion ends the search: once one does, it stays so until the criteria are changed."""
        stop = self._config.search.stop
        if self._stopped is None and stop != StopConfig():
            worked = self._worked_before + time.time() - self._began
            device_seconds = self._sum_up() * self._config.resources.devices_per_trial
            reason = reason_to_stop(stop, worked, device_seconds, self._effort.volumes)
            if reason is not None:
                self._search.study.set_user_attr(_STOPPED, {"reason": reason, "criteria": stop.model_dump()})
                self._stopped = reason
        return self._stopped is not None

    def _read_stop(self) -> str | None:
        stopped = self._search.study.user_attrs.get(_STOPPED)
        if stopped is None or stopped["criteria"] != self._config.search.stop.model_dump():
            return None
        return str(stopped["reason"])

    def _sum_up(self) -> float:
        """Takes the trials that have ended meanwhile; gives the seconds of all, the running ones' epochs included."""
        seconds = 0.0
        for prefix, trials in self._studies.items():
            for trial in trials.ended[self._counted[prefix] :]:
                self._effort.add(self._record(f"{prefix}{trial.number}", trial, None))
            self._counted[prefix] = len(trials.ended)
            seconds += sum(epoch["seconds"] for trial in trials.unfinished for epoch in epochs_of(trial))
        return self._effort.seconds + seconds

    def _begin_fixed(
        self, prefix: str, setting: Candidate, extends: str | None = None, replicates: tuple[int, ...] | None = None
    ) -> Task:
        """Begins a trial whose setting no sampler chooses: a baseline, or ``replicates`` of the trial ``extends``."""
        trials = self._studies[prefix]
        half_made = trials.half_made
        with trials.changing():
            trial_id = trials.study.ask()._trial_id if half_made is None else half_made._trial_id
            if extends is not None:
                wanted = {"number": extends, "replicates": replicates}
                self._storage.set_trial_user_attr(trial_id, _EXTENDS, wanted)
            number = self._give_setting(trials, trial_id, setting)
        return Task(f"{prefix}{number}", setting, replicates=replicates)

    def _due_extensions(self) -> list[tuple[str, tuple[int, ...]]]:
        """(number, replicates) of every contender that lacks some of its replicates, none of them begun.

        Contenders follow from what the ledger holds, so that a resumed sweep has the same. As results come in, settings
        may come to the front that were not there; no replicate is trained twice, so that this ends.
        """
        config, wanted = self._config, self._config.search.replicates_for_front
        if wanted is None or not self._searched:
            return []
        begun = defaultdict[str, set[int]](set)
        for trial in self._studies.get(REPLICATES_PREFIX, ()):
            if trial.state != TrialState.FAIL:
                begun[trial.user_attrs[_EXTENDS]["number"]].update(trial.user_attrs[_EXTENDS]["replicates"])
        due = []
        for record in contenders(self.records(), config.objectives, config.bounds):
            # Replicates of this problem say nothing of a setting that was measured on another.
            foreign = record.origin is not None and config.search.warm_start_force
            lacking = set(range(config.train.replicates, wanted)) - begun[record.number]
            if lacking and not foreign:
                due.append((record.number, tuple(sorted(lacking))))
        return due

    def _begin_suggestion(self) -> Task:
        trials, half_made = self._search, self._search.half_made
        number = trials.next_number if half_made is None else half_made.number
        trials.study.sampler = make_sampler(self._config, number, self._next_fixed())
        study = History(trials.study, trials.seen_by(self._config.search.sampler))
        with trials.changing():
            trial = study.ask() if half_made is None else self._begun_again(study, half_made)
            assert trial.number == number, "another driver writes to this study"
            parameters = {
                name: trial.suggest_float(name, distribution.low, distribution.high)
                for name, distribution in self._distributions.items()
            }
            setting = self._config.candidate(parameters)
            self._give_setting(trials, trial._trial_id, setting)
        return Task(str(number), setting)

    def _give_setting(self, trials: _Trials, trial_id: int, setting: Candidate) -> int:
        """Makes a row a trial, and tells its number."""
        self._storage.set_trial_user_attr(trial_id, _SETTING, asdict(setting))
        trial = self._storage.get_trial(trial_id)
        trials.keep(trial)
        return trial.number

    def _begun_again(self, study: Study, half_made: FrozenTrial) -> Trial:
        """The trial of a half-made row, with the sampler where it was after the suggestions that the row has."""
        trial = Trial(study, half_made._trial_id)
        for name, distribution in self._distributions.items():
            if name in half_made.params and name not in trial.relative_params and not distribution.single():
                study.sampler.sample_independent(study, half_made, name, distribution)
        return trial

    def _void_half_made(self) -> None:
        """Closes a row that will not be needed, outside budget and failure counts."""
        for trials in self._studies.values():
            half_made = trials.half_made
            if half_made is not None:
                with trials.changing():
                    trials.study.tell(half_made.number, state=TrialState.FAIL, skip_if_finished=True)
                trials.read()

    def _next_fixed(self) -> dict[str, float] | None:
        """The first fixed setting that no trial has, a failed one not counted."""
        return next((setting for setting in self._fixed if not self._search.tried(setting)), None)

    def _missing_baselines(self, *, finished_only: bool = False) -> list[Candidate]:
        present = [
            _setting(trial)
            for trial in self._baselines
            if (trial.state.is_finished() or not finished_only) and trial.state != TrialState.FAIL
        ]
        return [setting for setting in self._config.baselines if setting not in present]

    def _count_failures(self) -> int:
        return sum(trials.states[TrialState.FAIL] for trials in self._studies.values())

    def _find(self, number: str) -> tuple[_Trials, FrozenTrial]:
        prefix, count = split_number(number)
        trials = self._studies[prefix]
        return trials, trials[count]

    def _set(self, trials: _Trials, trial: FrozenTrial, key: str, value: Any) -> None:
        with trials.changing():
            self._storage.set_trial_user_attr(trial._trial_id, key, value)
            trial.user_attrs[key] = value

    def _tell(self, trials: _Trials, trial: FrozenTrial, result: Mapping[str, Any]) -> None:
        values = told(result)
        with trials.changing():
            for key, excess in self._excesses(values).items():
                if key not in trial.constraints:  # else by a driver that died before its tell
                    Trial(trials.study, trial._trial_id).set_constraint(key, excess)
        # Without a state Optuna takes finite values for COMPLETE and others for FAIL.
        self._end(trials, trial, None, [float(values[name]) for name in self._objectives])

    def _excesses(self, values: Mapping[str, float]) -> dict[str, float]:
        """By how much measured values miss each constraint."""
        return {str(bound): bound.excess(values[bound.name]) for bound in self._config.bounds}

    def _end(
        self, trials: _Trials, trial: FrozenTrial, state: TrialState | None, values: list[float] | None = None
    ) -> None:
        with trials.changing():
            trials.study.tell(trial.number, values, state=state, skip_if_finished=True)
            trials.keep(self._storage.get_trial(trial._trial_id))

    def _record(self, number: str, trial: FrozenTrial, audit: Mapping[str, Any] | None) -> TrialRecord:
        setting, epochs = _setting(trial), epochs_of(trial)
        result: Mapping[str, Any] = trial.user_attrs.get(_RESULT, {})
        origin = Origin(**trial.user_attrs[_ORIGIN]) if _ORIGIN in trial.user_attrs else None
        complete = trial.state == TrialState.COMPLETE
        values = measured(result) if result else {}
        record = TrialRecord(
            number=number,
            loss=setting.loss,
            parameters=dict(setting.parameters),  # type: ignore[arg-type]  # numbers alone so far
            state=_STATES[trial.state],  # type: ignore[arg-type]
            objectives={name: float(values[name]) for name in self._objectives} if complete else {},
            constraints=self._excesses(values) if complete else {},
            accuracies={
                name: value for name, value in values.items() if is_accuracy(name) and name not in self._objectives
            },
            replicates=tuple(result.get("replicates", ())),
            seeds=tuple(result.get("seeds", ())),
            images=result.get("images", {}),
            epochs=len(epochs),
            train_seconds=result.get("train_seconds", sum(epoch["seconds"] for epoch in epochs)),
            attack_seconds=result.get("attack_seconds", 0.0),
            started=trial.datetime_start.timestamp() if trial.datetime_start else None,
            finished=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
            failure=trial.user_attrs.get(_FAILURE),
            checkpoint=origin.checkpoint if origin else f"checkpoints/{number}" if epochs else None,
            outcomes=origin.outcomes if origin else f"outcomes/{number}.npz" if complete else None,
            origin=f"{origin.run}/{origin.number}" if origin else None,
            extends=trial.user_attrs[_EXTENDS]["number"] if _EXTENDS in trial.user_attrs else None,
        )
        return record if audit is None else _with_audit(record, audit)


def _with_audit(record: TrialRecord, audit: Mapping[str, Any]) -> TrialRecord:
    verified: list[float] = audit["verified"]
    return replace(
        record,
        accuracies={**record.accuracies, VERIFIED: sum(verified) / len(verified)},
        replicates=tuple(
            {**replicate, VERIFIED: value} for replicate, value in zip(record.replicates, verified, strict=True)
        ),
        images={**record.images, VERIFIED: audit["images"]},
        verdict=audit["verdict"],
    )


def _never_lost() -> None:
    """The right to write of a ledger without a lease."""


def epochs_of(trial: FrozenTrial) -> list[dict[str, float]]:
    """The metrics of each finished epoch of a trial, in order."""
    return [value for key, value in sorted(trial.user_attrs.items()) if key.startswith(_EPOCH)]


def _key(origin: Mapping[str, str]) -> tuple[str, str]:
    return origin["identity"], origin["number"]


def _directions(study: Study) -> list[Direction]:
    return ["maximize" if direction == StudyDirection.MAXIMIZE else "minimize" for direction in study.directions]


def _point(trial: FrozenTrial) -> tuple[tuple[str, float], ...]:
    """A trial's parameters as a key."""
    return tuple(sorted(trial.params.items()))


def _setting(trial: FrozenTrial) -> Candidate:
    return Candidate(**trial.user_attrs[_SETTING])


def _replicates(trial: FrozenTrial) -> tuple[int, ...] | None:
    return tuple(trial.user_attrs[_EXTENDS]["replicates"]) if _EXTENDS in trial.user_attrs else None
