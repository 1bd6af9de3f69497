"""The rows of a study: what they hold, what a driver remembers of them, and how they become records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.records import State, TrialRecord
from search.config import Constraint, SweepConfig
from search.results.final import unit_values
from search.results.metrics import Role, UnitResult
from search.study.space import distributions
from trainables.candidate import Candidate
from trainables.metrics import ATTACK_SECONDS, AUDITED, CLEAN, ROBUST, TRAIN_SECONDS, is_accuracy
from trainables.settings.space import Value

# User attributes of a row.
CANDIDATE, RESULT, FAILURE = "candidate", "result", "failure"
ORIGIN: Final = "origin"  # where a trial that was taken over comes from
EARLIER_AUDIT: Final = "audit"  # what an audit of the earlier run said of it
EXTENDS: Final = "extends"  # of another seed of a setting: the setting's number, the seed and the role
EPOCH: Final = "epoch:"
_STATES: Final[Mapping[TrialState, State]] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class Unit:
    """A setting to be trained with one seed.

    Args:
        number: Its number in the records: ``7``, ``B0`` (a baseline), ``R0`` (another seed of one of these).
        candidate: What to train.
        seed: Index of the seed, 0 for a setting's first unit.
        role: What its result is for: the search, or the confirmation of its contenders.
        orphan: Whether an earlier driver began it.
    """

    number: str
    candidate: Candidate
    seed: int = 0
    role: Role = "search"
    orphan: bool = False


@dataclass(frozen=True)
class Extension:
    """Another seed (1 or more) of the setting ``number``, as its row holds it."""

    number: str
    seed: int
    role: Role


@dataclass(frozen=True)
class Origin:
    """Where a trial that was taken over comes from.

    Args:
        run: The earlier run's name.
        identity: The earlier run's own id, because names can be used again.
        number: The trial's number there.
        checkpoint: Path of its checkpoints, relative to the new run's folder.
        outcomes: Path of its per-image outcomes, likewise.
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
    """A complete trial of an earlier run: where it comes from, the user attributes of its row, its times.

    ``extensions`` are the setting's other complete units.
    """

    origin: Origin
    attributes: Mapping[str, Any]
    started: datetime | None
    finished: datetime | None
    extensions: tuple[EarlierTrial, ...] = ()

    @classmethod
    def of(
        cls,
        trial: FrozenTrial,
        origin: Origin,
        audit: Mapping[str, Any] | None = None,
        extensions: Sequence[EarlierTrial] = (),
    ) -> EarlierTrial:
        """Takes a row of the earlier ledger; one that was taken over there keeps its first origin."""
        if ORIGIN in trial.user_attrs:
            first = origin_of(trial)
            origin = replace(first, checkpoint=origin.checkpoint, outcomes=origin.outcomes)
        attributes = dict(trial.user_attrs)
        if audit is not None and audit != own_audit(trial):
            attributes[EARLIER_AUDIT] = dict(audit)
        return cls(origin, attributes, trial.datetime_start, trial.datetime_complete, tuple(extensions))

    @property
    def parameters(self) -> dict[str, Value]:
        return dict(self.attributes[CANDIDATE]["parameters"])

    @property
    def measured(self) -> dict[str, float]:
        """Every number that a search can seek, as the search was told it."""
        return unit_values(UnitResult.from_json(self.attributes[RESULT]))

    def fits(self, config: SweepConfig) -> bool:
        """Whether it lies in the space and measured what the search seeks."""
        domains, parameters = config.domains, self.parameters
        sought = {*config.objectives, *(bound.name for bound in config.bounds)}
        inside = parameters.keys() == domains.keys() and all(
            domains[name].contains(value) for name, value in parameters.items()
        )
        return inside and sought <= self.measured.keys()

    def row(self, config: SweepConfig, marks: Mapping[str, int]) -> FrozenTrial:
        """The trial as a row of the new sweep's ledger, with the system attributes that its sampler looks for."""
        values = self.measured
        trial = create_trial(
            values=[float(values[name]) for name in config.objectives],
            params=self.parameters,
            distributions=distributions(config.domains),
            constraints=excesses(config.bounds, values),
            system_attrs=dict(marks),
            user_attrs={**self.attributes, ORIGIN: asdict(self.origin)},
        )
        trial.datetime_start, trial.datetime_complete = self.started, self.finished
        return trial


class Trials:
    """One study's trials (every row that has a setting), by number.

    Each trial is read once. A writer, of which there is one at a time, then knows what it writes.
    """

    def __init__(self, study: Study, storage: BaseStorage) -> None:
        self.study, self._storage = study, storage
        self.read()

    def read(self) -> None:
        """Reads everything from the storage."""
        rows = self.study.get_trials(deepcopy=False)
        self._next_number = len(rows)
        self._trials = {trial.number: trial for trial in rows if CANDIDATE in trial.user_attrs}
        self._half_made = next(
            (trial for trial in rows if trial.number not in self._trials and not trial.state.is_finished()), None
        )
        self._states = Counter(trial.state for trial in self._trials.values() if ORIGIN not in trial.user_attrs)
        finished = (trial for trial in self._trials.values() if trial.state.is_finished())
        self._ended = sorted(finished, key=lambda trial: (trial.datetime_complete, trial.number))
        self._stale = False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Surrounds every write: one that raises may have come through or not, so everything is read again."""
        try:
            yield
        except BaseException:
            self._stale = True
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
        if trial.number in self._trials:
            self._states[self._trials[trial.number].state] -= 1
        self._trials[trial.number] = trial
        self._states[trial.state] += 1
        if trial.state.is_finished():
            self._ended.append(trial)
        self._next_number = max(self._next_number, trial.number + 1)
        if self._half_made is not None and self._half_made.number == trial.number:
            self._half_made = None

    @property
    def states(self) -> Counter[TrialState]:
        """How many of the run's own trials are in each state."""
        self._look_again()
        return self._states

    @property
    def ended(self) -> list[FrozenTrial]:
        """Those that have ended, in the order of their ends."""
        self._look_again()
        return self._ended

    @property
    def unfinished(self) -> list[FrozenTrial]:
        """Those that still run."""
        return [trial for trial in self if not trial.state.is_finished()]

    @property
    def half_made(self) -> FrozenTrial | None:
        """The row that was begun and has no setting yet. There is at most one: a driver begins one at a time."""
        self._look_again()
        return self._half_made

    @property
    def next_number(self) -> int:
        """The number of the next row."""
        self._look_again()
        return self._next_number

    def __iter__(self) -> Iterator[FrozenTrial]:
        self._look_again()
        return iter(self._trials.values())

    def __getitem__(self, number: int) -> FrozenTrial:
        self._look_again()
        return self._trials[number]

    def _look_again(self) -> None:
        if self._stale:
            self.read()


def candidate_of(trial: FrozenTrial) -> Candidate:
    """What a row trains."""
    return Candidate(**trial.user_attrs[CANDIDATE])


def extension_of(trial: FrozenTrial) -> Extension | None:
    """Which seed of which setting a row is; None for a setting's first unit."""
    return Extension(**trial.user_attrs[EXTENDS]) if EXTENDS in trial.user_attrs else None


def origin_of(trial: FrozenTrial) -> Origin:
    """Where a row that was taken over comes from."""
    return Origin(**trial.user_attrs[ORIGIN])


def unit_of(number: str, trial: FrozenTrial, *, orphan: bool = False) -> Unit:
    """A row as the unit to be trained."""
    extension = extension_of(trial)
    seed, role = (extension.seed, extension.role) if extension else (0, "search")
    return Unit(number, candidate_of(trial), seed, role, orphan)


def epochs_of(trial: FrozenTrial) -> list[dict[str, float]]:
    """The metrics of each finished epoch of a trial, in order."""
    return [value for key, value in sorted(trial.user_attrs.items()) if key.startswith(EPOCH)]


def own_audit(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """What an audit said of a trial, as its row holds it: one by an earlier run, or one that came with the result."""
    audit: Mapping[str, Any] | None = trial.user_attrs.get(EARLIER_AUDIT)
    if audit is not None or RESULT not in trial.user_attrs:
        return audit
    return UnitResult.from_json(trial.user_attrs[RESULT]).audit


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
        state=_STATES[trial.state],
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
        checkpoint=origin.checkpoint if origin else f"checkpoints/{number}" if epochs else None,
        outcomes=origin.outcomes if origin else f"outcomes/{number}.npz" if complete else None,
        origin=f"{origin.run}/{origin.number}" if origin else None,
        extends=extension.number if extension else None,
        verdict=audit["verdict"] if audit is not None and complete else None,
    )


def _images(result: UnitResult) -> dict[str, int]:
    """How many images the clean and the robust accuracy rest on; each attack's rests on those of the robust one."""
    counts = {name: result.scores[name].count for name in (CLEAN, ROBUST) if name in result.scores}
    return {name: count for name, count in counts.items() if count is not None}
