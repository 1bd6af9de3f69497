"""The ledger: the Optuna studies that hold all that a sweep has tried, and the only account of it.

Study NAME is the search, study NAME-baselines holds the reference settings, study NAME-replicates further seeds of the
settings in both. A row is a unit: one setting trained with one seed. Everything else (checkpoints, outcomes, MLflow
runs, records) is kept under the unit's number: ``7`` in the search, ``B0`` among the baselines, ``R0`` for a further
seed. The result of each epoch and trial is written here first; the rest can be rebuilt from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import Engine

from analysis.hypervolume import Reference
from analysis.records import BASELINE_PREFIX, REPLICATES_PREFIX, TrialRecord, split_number
from search.config import SweepConfig
from search.results.answer import Choice, answer_of
from search.results.metrics import Role
from search.results.standing import reference_of
from search.runs.folder import ImportedRun, Run
from search.study.due import FIRST_CONFIRMATION_SEED, Counts, Due, Round
from search.study.history import History, Lookback
from search.study.observed import observe
from search.study.samplers import distributions, find, make_sampler, suggest
from search.study.samplers.nehvi import MOST_MODELLED, race
from search.study.stopping import SearchEnd
from search.study.storage import Mode, open_storage, open_studies
from search.study.trials import (
    CANDIDATE,
    EPOCH,
    EXTENDS,
    FAILURE,
    ORIGIN,
    RESULT,
    EarlierTrial,
    Extension,
    Trials,
    Unit,
    candidate_of,
    epochs_of,
    excesses,
    measured,
    origin_of,
    own_audit,
    record_of,
    unit_of,
)
from trainables.candidate import Candidate
from trainables.settings.space import Value

# User attributes of the search's study.
_TAKEN_OVER: Final = "taken_over"  # the runs whose trials have been taken over
_REQUESTED: Final = "requested"  # further seeds of settings, begun or not
_ROUNDS: Final = "rounds"  # the choices to confirm
_REFERENCE: Final = "reference"
_AUDIT: Final = "audit:"  # and the unit: Optuna refuses to write to a trial that has ended


class Ledger:
    """The account of one sweep.

    Args:
        storage: Where the studies are. Use one in memory where nothing has to last.
        config: The sweep's configuration.
        mode: ``new``: the studies must not exist yet; ``resume``: missing ones are made; ``read``: they must exist.
        folder: The run's folder, which holds the per-image outcomes.

    Raises:
        UserError: The studies exist already, or do not.
    """

    def __init__(self, storage: BaseStorage, config: SweepConfig, mode: Mode, folder: Path | None = None) -> None:
        self._storage, self._config, self._folder = storage, config, folder
        studies = open_studies(storage, config, mode)
        self._studies = {prefix: Trials(study, storage) for prefix, study in studies.items()}
        self._search, self._baselines = self._studies[""], self._studies[BASELINE_PREFIX]
        self._extensions = self._studies[REPLICATES_PREFIX]
        self._distributions = distributions(config.domains)
        self._fixed = config.fixed_settings
        self._due = Due(config, self._search, self._baselines, self._extensions)
        self._read_due()
        self._lookback = Lookback(config, self._search, self._extensions)
        self._end_of_search = SearchEnd(config, self._search.study)
        self._check: Callable[[], None] = lambda: None
        self._audits: dict[str, Mapping[str, Any]] | None = None  # what `audited` wrote, once read
        self._orphans: list[Unit] = []
        self._handed_out: set[str] = set()
        self._asking = False
        self._failed_before = 0

    @property
    def engine(self) -> Engine:
        """The database's engine, for what is stored beside the studies (the lease)."""
        assert isinstance(self._storage, RDBStorage), "a ledger in memory has no database"
        return self._storage.engine

    def close(self) -> None:
        """Closes the database's connections. Later calls open new ones."""
        if isinstance(self._storage, RDBStorage):
            self._storage.engine.dispose()

    # Reading

    def trials(self) -> list[tuple[str, FrozenTrial]]:
        """(number, trial) of every unit: baselines, the search's, then further seeds. Half-made rows are left out."""
        order = (BASELINE_PREFIX, "", REPLICATES_PREFIX)
        return [(f"{prefix}{trial.number}", trial) for prefix in order for trial in self._studies[prefix]]

    def records(self) -> list[TrialRecord]:
        """Every unit as a record, in the order of ``trials``."""
        return [self.record(number) for number, _ in self.trials()]

    def record(self, number: str) -> TrialRecord:
        """One unit's record."""
        trial = self._find(number)[1]
        return record_of(number, trial, self._audit(number, trial), self._config)

    def history(self, number: str) -> list[dict[str, float]]:
        """The metrics of each finished epoch of a unit, in order."""
        return epochs_of(self._find(number)[1])

    @property
    def reference(self) -> Reference | None:
        """What the hypervolume is measured from: fixed and recorded when the baselines' first seeds have finished."""
        document = self._search.study.user_attrs.get(_REFERENCE)
        return None if document is None else Reference.from_json(document)

    def audits(self) -> dict[str, Mapping[str, Any]]:
        """What audits said, by unit: as ``audited`` was given it, else as the unit's own result has it."""
        audits = {number: self._audit(number, trial) for number, trial in self.trials()}
        return {number: audit for number, audit in audits.items() if audit is not None}

    def counts(self) -> Counts:
        """Where the search stands, in units of role ``search``; baselines do not count."""
        imported = sum(ORIGIN in trial.user_attrs for trial in self._search)
        states = self._search.states + self._due.states("search")
        return Counts(**states, budget=self._config.budget, imported=imported)

    def extensions(self) -> Counts:
        """The progress of the confirmation, in units. No unit is due before the search is over."""
        states = self._due.states("confirmation")
        due = len(self._due.confirmations()) if self._chosen else 0
        return Counts(**states, budget=states["complete"] + states["running"] + due)

    def failures(self) -> int:
        """Failed units of every kind since the ledger was adopted."""
        return self._count_failures() - self._failed_before

    @property
    def failures_exhausted(self) -> bool:
        """Whether more units have failed than are replaced."""
        return self.failures() > self._config.resources.max_failures

    @property
    def complete(self) -> bool:
        """Whether the search is over, and its contenders are confirmed and compared with their baselines."""
        running = self._baselines.unfinished or self._extensions.unfinished
        if running or not self._searched or (self._config.search.confirmation_seeds and not self._chosen):
            return False
        return not self._confirmations()

    @property
    def _chosen(self) -> bool:
        """Whether the search is over and its choice recorded."""
        rounds = self._due.rounds
        return bool(rounds) and rounds[-1].units == self.counts().finished and self._searched

    @property
    def _searched(self) -> bool:
        """Whether the budget is spent, or a criterion has ended the search, and nothing of role ``search`` is left."""
        counts = self.counts()
        over = counts.finished >= counts.budget or (self.stopped is not None and not counts.running)
        return over and not self._due.baselines(finished_only=True) and not self._due.seeds(finished_only=True)

    @property
    def stopped(self) -> str | None:
        """Which criterion of ``search.stop`` has ended the search, and how it was met; None if none has."""
        return self._end_of_search.reason

    # Writing: only the owner of the lease may

    def adopt(self, check: Callable[[], None] = lambda: None) -> None:
        """Takes over what an earlier driver left: its unfinished units are handed out again first.

        Failures under earlier drivers no longer count towards ``resources.max_failures``: the user has seen them.
        ``check`` is called before every write from now on; it raises when the right to write is lost.
        """
        self._check = check
        self._check()
        self._handed_out, self._asking, self._audits = set(), False, None
        for trials in self._studies.values():
            trials.read()
        self._read_due()
        self._end_of_search.begin(self._studies)
        self._find_orphans()
        self._fix_reference()  # a driver may have died before it did
        self._failed_before = self._count_failures()

    def _begin_write(self) -> None:
        """Makes sure that this driver may write, and knows what came of a write that raised."""
        self._check()
        for trials in self._studies.values():
            if trials.stale:
                trials.read()

    @property
    def warm_started(self) -> bool:
        """Whether everything to be taken over from earlier runs is here."""
        taken_over: list[str] = self._search.study.user_attrs.get(_TAKEN_OVER, [])
        return taken_over == self._config.search.warm_start

    def take_over(self, earlier: Sequence[EarlierTrial]) -> None:
        """Adds the trials of ``search.warm_start``, each in one transaction. Those already here stay as they are."""
        self._begin_write()
        self._add(self._search, [trial.row for trial in earlier])
        numbers = {origin_of(row).key: str(row.number) for row in self._search if ORIGIN in row.user_attrs}
        seeds = []
        for trial in earlier:
            for seed in trial.extensions:
                number = numbers[origin_of(trial.row).key]
                seed.user_attrs[EXTENDS] = {**seed.user_attrs[EXTENDS], "number": number}
                seeds.append(seed)
        self._add(self._extensions, seeds)
        self._search.study.set_user_attr(_TAKEN_OVER, self._config.search.warm_start)

    def _add(self, trials: Trials, rows: Sequence[FrozenTrial]) -> None:
        present = {origin_of(row).key for row in trials if ORIGIN in row.user_attrs}
        for row in rows:
            if origin_of(row).key not in present:
                with trials.changing():
                    trials.study.add_trial(row)
        trials.read()

    def extend(self, number: str, seed: int, role: Role) -> None:
        """Asks for another seed (from 1) of a setting; ``ask`` hands it out before any new setting. Twice is once.

        Raises:
            ValueError: ``number`` is itself a further seed, or ``seed`` is 0 (the setting's first unit) or reserved for
                the other role.
        """
        self._begin_write()
        if split_number(number)[0] == REPLICATES_PREFIX:
            raise ValueError(f"number must be a setting's own, got {number}; give the number that it extends")
        if seed < 1:
            raise ValueError(f"seed must be at least 1, got {seed}; seed 0 is the setting's own trial")
        if (seed >= FIRST_CONFIRMATION_SEED) != (role == "confirmation"):
            raise ValueError(
                f"seed must be below {FIRST_CONFIRMATION_SEED} for the search, and at least that for a confirmation, "
                f"got {seed} for {role}; choose a seed in that range"
            )
        self._find(number)
        request, requests = Extension(number, seed, role), self._due.requests
        if request not in requests:
            self._search.study.set_user_attr(_REQUESTED, [asdict(each) for each in (*requests, request)])
            requests.append(request)

    def ask(self) -> Unit | None:
        """The next unit to train; None if the whole budget is finished or running, or too much has failed.

        In this order: orphans, missing baselines, further seeds of settings, fixed settings, suggestions. Once
        the search is over: further seeds of its contenders, then the contenders' baselines. A row whose driver died or
        lost the database between its suggestions is completed before a new one is begun. The sampler is seeded by the
        row's number, so it suggests what it would have suggested then.
        """
        self._begin_write()
        if self._asking:  # the last ask raised, so its row may exist or not
            self._find_orphans()
        self._asking = True
        unit = self._orphans.pop(0) if self._orphans else self._begin()
        if unit is None:
            self._void_half_made()
        else:
            self._handed_out.add(unit.number)
        self._asking = False
        return unit

    def report(self, number: str, metrics: Mapping[str, float]) -> None:
        """Records an epoch's metrics with the time. Reporting an epoch again (a resumed unit does) changes nothing."""
        self._begin_write()
        trials, trial = self._find(number)
        key = f"{EPOCH}{int(metrics['epoch']):05d}"
        if key not in trial.user_attrs:
            trials.set(trial, key, {"time": time.time(), **metrics})

    def finish(self, number: str, result: Mapping[str, Any]) -> None:
        """Records a unit's result and tells Optuna its objectives and constraints. A second time changes nothing.

        An audit in the result is stored with it, in one write, so that no death of the driver can part the two.
        """
        self._begin_write()
        trials, trial = self._find(number)
        if not trial.state.is_finished():
            trials.set(trial, RESULT, dict(result))
            self._tell(trials, trial)
        if number.startswith(BASELINE_PREFIX):  # even if an earlier call was interrupted after the result
            self._fix_reference()

    def fail(self, number: str, reason: str) -> None:
        """Records that a unit failed, and why."""
        self._begin_write()
        trials, trial = self._find(number)
        if not trial.state.is_finished():
            trials.set(trial, FAILURE, reason)
            trials.end(trial, TrialState.FAIL)

    def prune(self, number: str) -> None:
        """Records that a unit was stopped early; it is not handed out again."""
        self._begin_write()
        self._orphans = [unit for unit in self._orphans if unit.number != number]
        trials, trial = self._find(number)
        if not trial.state.is_finished():
            trials.end(trial, TrialState.PRUNED)

    def audited(self, number: str, audit: Mapping[str, Any]) -> None:
        """Records an audit (as in ``UnitResult``) of a complete unit. It takes precedence over earlier ones."""
        self._begin_write()
        self._audits = None
        self._search.study.set_user_attr(f"{_AUDIT}{number}", dict(audit))

    def _read_due(self) -> None:
        attributes = self._search.study.user_attrs
        self._due.requests = [Extension(**each) for each in attributes.get(_REQUESTED, [])]
        self._due.rounds = [Round.from_json(each) for each in attributes.get(_ROUNDS, [])]

    def _fix_choice(self) -> None:
        """Records the search's choice, so that later results cannot change it."""
        answered = answer_of(self._config, self._folder, self.records())
        choice = answered.choice if answered is not None else Choice()
        self._due.choose(map(self.record, choice.settings), choice.baselines, self.counts().finished)
        self._search.study.set_user_attr(_ROUNDS, [asdict(each) for each in self._due.rounds])

    def _fix_reference(self) -> None:
        """Records the reference as soon as there is one; later results do not move it."""
        if self.reference is None:
            reference = reference_of(self.records(), self._config)
            if reference is not None:
                self._search.study.set_user_attr(_REFERENCE, reference.to_json())

    def _find_orphans(self) -> None:
        """Finds unfinished units that nobody works on: an earlier driver's, or one whose ask raised."""
        self._orphans = []
        for number, trial in self.trials():
            if trial.state.is_finished() or number in self._handed_out:
                continue
            if RESULT in trial.user_attrs:  # its driver died between the result and its tell
                self._tell(self._find(number)[0], trial)
            else:
                self._orphans.append(unit_of(number, trial))

    def _begin(self) -> Unit | None:
        if self.failures_exhausted:
            return None
        missing: list[Extension | Candidate] = [*self._due.baselines(), *self._due.seeds()]
        if missing:
            return self._begin_fixed(missing[0])
        counts = self.counts()
        within_budget = counts.finished + counts.running + self._due.reserved() < counts.budget
        if within_budget and not self._end_of_search.reached(self._studies):
            fixed = self._next_fixed()
            # With racing, a setting gets its seeds before the next one begins. nehvi needs the fixed settings first.
            choice = fixed if fixed and not self._config.search.racing else self._choose() or fixed
            return self._begin_fixed(choice) if isinstance(choice, Extension) else self._begin_suggestion(choice)
        if not self._searched:
            return None
        if self._config.search.confirmation_seeds and not self._chosen:
            self._fix_choice()
        confirmations = self._confirmations()
        return self._begin_fixed(confirmations[0]) if confirmations else None

    def _confirmations(self) -> list[Extension | Candidate]:
        """The units due once the search is over: the contenders' own baselines, then seeds that confirm the choice."""
        return [*self._due.contenders_baselines(self.records()), *self._due.confirmations()]

    def _begin_fixed(self, due: Extension | Candidate) -> Unit:
        """Begins a unit whose setting no sampler chooses: another seed of a setting, or a baseline."""
        if isinstance(due, Extension):
            prefix, candidate = REPLICATES_PREFIX, candidate_of(self._find(due.number)[1])
        else:
            prefix, candidate = BASELINE_PREFIX, due
        trials, half_made = self._studies[prefix], self._studies[prefix].half_made
        with trials.changing():
            trial_id = trials.study.ask()._trial_id if half_made is None else half_made._trial_id
            if isinstance(due, Extension):
                self._storage.set_trial_user_attr(trial_id, EXTENDS, asdict(due))
            return self._give_candidate(prefix, trial_id, candidate)

    @property
    def _next_number(self) -> int:
        half_made = self._search.half_made
        return len(self._search.rows) if half_made is None else half_made.number

    def _choose(self) -> Mapping[str, Value] | Extension | None:
        """A new setting or another seed of a known one, by the noise model; None to let the sampler suggest."""
        choose = race if self._config.search.racing else find(self._config.search.sampler).choose
        if choose is None:
            return None
        modelled = self._lookback.entries(MOST_MODELLED)
        observed = observe(self._config, modelled, self._search, self._baselines, self._extensions)
        return choose(self._config, self._next_number, observed)

    def _begin_suggestion(self, fixed: Mapping[str, Value] | None) -> Unit:
        trials, half_made, sampler = self._search, self._search.half_made, self._config.search.sampler
        number = self._next_number
        tried = (trial.params for trial in trials)
        trials.study.sampler = make_sampler(self._config, number, fixed, tried)
        study = History(trials.study, self._lookback.entries(find(sampler).most_modelled))
        with trials.changing():
            trial = study.ask() if half_made is None else self._begun_again(study, half_made)
            assert trial.number == number, "another driver writes to this study"
            parameters = {name: suggest(trial, name, each) for name, each in self._distributions.items()}
            return self._give_candidate("", trial._trial_id, self._config.candidate(parameters))

    def _give_candidate(self, prefix: str, trial_id: int, candidate: Candidate) -> Unit:
        self._storage.set_trial_user_attr(trial_id, CANDIDATE, asdict(candidate))
        trial = self._storage.get_trial(trial_id)
        self._studies[prefix].keep(trial)
        return unit_of(f"{prefix}{trial.number}", trial)

    def _begun_again(self, study: Study, half_made: FrozenTrial) -> Trial:
        """The trial of a half-made row, with the sampler where it was after the row's suggestions."""
        trial = Trial(study, half_made._trial_id)
        for name, distribution in self._distributions.items():
            if name in half_made.params and name not in trial.relative_params and not distribution.single():
                study.sampler.sample_independent(study, half_made, name, distribution)
        return trial

    def _void_half_made(self) -> None:
        """Closes rows that will not be needed; they count neither for the budget nor as failures."""
        for trials in self._studies.values():
            half_made = trials.half_made
            if half_made is not None:
                with trials.changing():
                    trials.study.tell(half_made.number, state=TrialState.FAIL, skip_if_finished=True)
                trials.read()

    def _next_fixed(self) -> Mapping[str, Value] | None:
        """The first fixed setting that no trial has; failed trials do not count."""
        tried = [trial.params for trial in self._search if trial.state != TrialState.FAIL]
        return next((setting for setting in self._fixed if setting not in tried), None)

    def _count_failures(self) -> int:
        return sum(trials.states["failed"] for trials in self._studies.values())

    def _find(self, number: str) -> tuple[Trials, FrozenTrial]:
        prefix, count = split_number(number)
        trials = self._studies[prefix]
        return trials, trials[count]

    def _tell(self, trials: Trials, trial: FrozenTrial) -> None:
        values = measured(trial)
        with trials.changing():
            for key, excess in excesses(self._config.bounds, values).items():
                if key not in trial.constraints:  # else a driver wrote it that died before its tell
                    Trial(trials.study, trial._trial_id).set_constraint(key, excess)
        trials.end(trial, None, [float(values[name]) for name in self._config.objectives])

    def _audit(self, number: str, trial: FrozenTrial) -> Mapping[str, Any] | None:
        if self._audits is None:
            attributes = self._search.study.user_attrs.items()
            self._audits = {key.removeprefix(_AUDIT): value for key, value in attributes if key.startswith(_AUDIT)}
        return self._audits.get(number) or own_audit(trial)


def open_ledger(run: Run) -> Ledger:
    """The ledger of a run, for reading. A ``UserError`` says that its storage does not answer or hold the study."""
    return Ledger(open_storage(run.storage_url, create=False), run.config, "read", run.folder)


def read_records(run: Run | ImportedRun) -> list[TrialRecord]:
    """A run's units as its ledger has them now, or as they were imported."""
    if isinstance(run, ImportedRun):
        return run.records()
    with closing(open_ledger(run)) as ledger:
        return ledger.records()
