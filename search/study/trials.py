"""The rows of a study: what they hold, what a driver remembers of them, and how they become records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from analysis.records import State, TrialRecord
from search.config import Constraint, SweepConfig
from search.results.final import unit_values
from search.results.metrics import Role, UnitResult
from search.runs.layout import CHECKPOINTS, OUTCOMES
from trainables.candidate import Candidate
from trainables.metrics import ATTACK_SECONDS, AUDITED, BEST_CLEAN, CLEAN, ROBUST, TRAIN_SECONDS, is_accuracy

# User attributes of a row.
CANDIDATE, RESULT, FAILURE = "candidate", "result", "failure"
ORIGIN: Final = "origin"  # where a trial that was taken over comes from
EARLIER_AUDIT: Final = "audit"  # what an audit of the earlier run said of it
EXTENDS: Final = "extends"  # of another seed of a setting: the setting's number, the seed and the role
EPOCH: Final = "epoch:"
STATES: Final[Mapping[TrialState, State]] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Unit:
    """A setting to be trained with one seed, whose index is 0 for the setting's first unit.

    ``number`` is that of the records: ``7``, ``B0`` (a baseline), ``R0`` (another seed of one of these). ``role`` says
    what the result is for: the search, or the confirmation of its contenders.
    """

    number: str
    candidate: Candidate
    seed: int = 0
    role: Role = "search"


@dataclass(frozen=True)
class Extension:
    """Another seed (1 or more) of the setting ``number``, as its row holds it."""

    number: str
    seed: int
    role: Role


@dataclass(frozen=True)
class Origin:
    """Where a trial that was taken over comes from: a run, its own id (names can be used again), and the number there.

    The paths of its checkpoints and outcomes are relative to the new run's folder.
    """

    run: str
    identity: str
    number: str
    checkpoint: str | None
    outcomes: str | None

    @property
    def key(self) -> tuple[str, str]:
        """What tells one earlier trial from another."""
        return self.identity, self.number


@dataclass(frozen=True)
class EarlierTrial:
    """A complete trial of an earlier run, as a row of the new run's ledger, and its setting's other complete units."""

    row: FrozenTrial
    extensions: tuple[FrozenTrial, ...] = ()


class Trials:
    """One study's trials (every row that has a setting) by number. ``rows`` also has those that got none.

    Each row is read once. A writer, of which there is one at a time, then knows what it writes. ``stale`` says that a
    write has raised: it may have come through or not, so everything must be read again. ``ended`` is in the order of
    the ends.
    """

    def __init__(self, study: Study, storage: BaseStorage) -> None:
        self.study, self._storage = study, storage
        self.read()

    def read(self) -> None:
        """Reads everything from the storage."""
        self.rows = {row.number: row for row in self.study.get_trials(deepcopy=False)}
        ended = (trial for trial in self if trial.state.is_finished())
        self.ended = sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))
        self.stale = False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Surrounds every write."""
        try:
            yield
        except BaseException:
            self.stale = True
            raise

    def set(self, trial: FrozenTrial, key: str, value: Any) -> None:
        """Writes an attribute of a trial that runs."""
        with self.changing():
            self._storage.set_trial_user_attr(trial._trial_id, key, value)
            trial.user_attrs[key] = value

    def end(self, trial: FrozenTrial, state: TrialState | None, values: Sequence[float] | None = None) -> None:
        """Ends a trial that runs. Without a state, Optuna takes finite values for COMPLETE and others for FAIL."""
        with self.changing():
            self.study.tell(trial.number, values, state=state, skip_if_finished=True)
            self.keep(self._storage.get_trial(trial._trial_id))

    def keep(self, trial: FrozenTrial) -> None:
        """Takes a trial that has just begun or ended."""
        self.rows[trial.number] = trial
        if trial.state.is_finished():
            self.ended.append(trial)

    @property
    def states(self) -> Counter[str]:
        """How many of the run's own trials are in each state."""
        return Counter(STATES[trial.state] for trial in self if ORIGIN not in trial.user_attrs)

    @property
    def unfinished(self) -> list[FrozenTrial]:
        """Those that still run."""
        return [trial for trial in self if not trial.state.is_finished()]

    @property
    def half_made(self) -> FrozenTrial | None:
        """The row that was begun and has no setting yet. There is at most one: a driver begins one at a time."""
        open_rows = (row for row in self.rows.values() if not row.state.is_finished())
        return next((row for row in open_rows if CANDIDATE not in row.user_attrs), None)

    def __iter__(self) -> Iterator[FrozenTrial]:
        return (row for row in self.rows.values() if CANDIDATE in row.user_attrs)

    def __getitem__(self, number: int) -> FrozenTrial:
        return self.rows[number]


def candidate_of(trial: FrozenTrial) -> Candidate:
    """What a row trains."""
    return Candidate(**trial.user_attrs[CANDIDATE])


def extension_of(trial: FrozenTrial) -> Extension | None:
    """Which seed of which setting a row is; None for a setting's first unit."""
    return Extension(**trial.user_attrs[EXTENDS]) if EXTENDS in trial.user_attrs else None


def extended(extensions: Trials) -> Iterator[tuple[FrozenTrial, Extension]]:
    """The rows of the study of further seeds, each with what it extends."""
    return ((row, Extension(**row.user_attrs[EXTENDS])) for row in extensions)


def origin_of(trial: FrozenTrial) -> Origin:
    """Where a row that was taken over comes from."""
    return Origin(**trial.user_attrs[ORIGIN])


def unit_of(number: str, trial: FrozenTrial) -> Unit:
    """A row as the unit to be trained."""
    extension = extension_of(trial)
    seed, role = (extension.seed, extension.role) if extension else (0, "search")
    return Unit(number, candidate_of(trial), seed, role)


def epochs_of(trial: FrozenTrial) -> list[dict[str, float]]:
    """The metrics of each finished epoch of a trial, in order."""
    return [value for key, value in sorted(trial.user_attrs.items()) if key.startswith(EPOCH)]


def own_audit(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """What an audit said of a trial, as its row holds it: one by an earlier run, or one that came with the result."""
    audit: Mapping[str, Any] | None = trial.user_attrs.get(EARLIER_AUDIT)
    if audit is None and RESULT in trial.user_attrs:
        audit = UnitResult.from_json(trial.user_attrs[RESULT]).audit
    return audit


def measured(trial: FrozenTrial) -> dict[str, float]:
    """Every number of a unit that a search can seek, as the search is told it."""
    return unit_values(UnitResult.from_json(trial.user_attrs[RESULT]))


def excesses(bounds: Sequence[Constraint], values: Mapping[str, float]) -> dict[str, float]:
    """By how much measured values miss each constraint."""
    return {str(bound): bound.excess(values[bound.name]) for bound in bounds}


def record_of(number: str, trial: FrozenTrial, audit: Mapping[str, Any] | None, config: SweepConfig) -> TrialRecord:
    """A row as a record, with what an audit says of it, if there was one."""
    unit, extension, epochs = unit_of(number, trial), extension_of(trial), epochs_of(trial)
    result = UnitResult.from_json(trial.user_attrs[RESULT]) if RESULT in trial.user_attrs else None
    origin = origin_of(trial) if ORIGIN in trial.user_attrs else None
    complete = trial.state == TrialState.COMPLETE
    values, images = (result.values, _images(result)) if result else ({}, {})
    if audit is not None and complete:
        values[AUDITED], images[AUDITED] = audit["accuracy"], audit["images"]
    return TrialRecord(
        number=number,
        loss=unit.candidate.loss,
        defence=unit.candidate.defence,
        parameters=dict(unit.candidate.parameters),
        state=STATES[trial.state],
        objectives={name: float(values[name]) for name in config.objectives} if complete else {},
        constraints=excesses(config.bounds, values) if complete else {},
        accuracies={
            name: value for name, value in values.items() if is_accuracy(name) and name not in config.objectives
        },
        replicates=(values,) if result else (),
        seeds=(result.seed_value,) if result else (),
        seed_index=unit.seed,
        role=unit.role,
        images=images,
        epochs=len(epochs),
        train_seconds=values.get(TRAIN_SECONDS, sum(epoch["seconds"] for epoch in epochs)),
        attack_seconds=values.get(ATTACK_SECONDS, 0.0),
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        finished=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        failure=trial.user_attrs.get(FAILURE),
        checkpoint=origin.checkpoint if origin else f"{CHECKPOINTS}/{number}" if epochs else None,
        outcomes=origin.outcomes if origin else f"{OUTCOMES}/{number}.npz" if complete else None,
        origin=f"{origin.run}/{origin.number}" if origin else None,
        extends=extension.number if extension else None,
        verdict=audit["verdict"] if audit is not None and complete else None,
    )


def _images(result: UnitResult) -> dict[str, int]:
    """How many images the clean and the robust accuracies rest on; each attack's rests on those of the robust one."""
    counts = {name: result.scores[name].count for name in (CLEAN, ROBUST, BEST_CLEAN) if name in result.scores}
    return {name: count for name, count in counts.items() if count is not None}
