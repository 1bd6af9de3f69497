"""The units that are due besides the sampler's suggestions: baselines, and further seeds of settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from optuna.trial import FrozenTrial, TrialState

from analysis.records import BASELINE_PREFIX, TrialRecord, kind_of, split_number
from search.config import SweepConfig
from search.results.final import contenders
from search.results.metrics import Role
from search.study.trials import ORIGIN, STATES, Extension, Trials, candidate_of, extended
from trainables.candidate import Candidate

# Seed indices from here on are for confirmation, lower ones for the search.
FIRST_CONFIRMATION_SEED: Final = 1000


@dataclass(frozen=True)
class Counts:
    """How many units are in each state; ``budget`` is the number to finish.

    ``imported`` counts units of earlier runs, which are in none of the other counts.
    """

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    budget: int = 0
    imported: int = 0

    @property
    def finished(self) -> int:
        return self.complete + self.pruned


@dataclass(frozen=True)
class Round:
    """A choice of the search and the seeds that confirm it: the configured number, from index ``first_seed`` on.

    If the search continues and its choice changes, the new choice gets seeds not used for confirmation before.
    ``units`` is the number of search units behind the choice.
    """

    settings: tuple[str, ...]
    baselines: tuple[str, ...]
    first_seed: int
    units: int

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of ``dataclasses.asdict``."""
        settings, baselines = tuple(document["settings"]), tuple(document["baselines"])
        return cls(settings, baselines, document["first_seed"], document["units"])


class Due:
    """The units that are due, derived from the rows alone, so that a resumed sweep computes the same.

    ``search`` and ``baselines`` hold each setting's first unit, ``extensions`` the further seeds of both. ``requests``
    are explicitly requested seeds, ``rounds`` the rounds of confirmation.
    """

    def __init__(self, config: SweepConfig, search: Trials, baselines: Trials, extensions: Trials) -> None:
        self._config = config
        self._search, self._baselines, self._extensions = search, baselines, extensions
        self.requests: list[Extension] = []
        self.rounds: list[Round] = []

    def baselines(self, *, finished_only: bool = False) -> list[Candidate]:
        """The baselines that no unit has begun (or, with ``finished_only``, finished); failed ones do not count."""
        return self._untried(self._config.baselines, finished_only)

    def seeds(self, *, finished_only: bool = False) -> list[Extension]:
        """The seeds that no unit has begun (or finished): those requested, then those of every complete setting.

        A setting that failed or was stopped early gets no further seed.
        """
        begun = self._begun(finished_only)
        requested = [
            each for each in self.requests if (each.number, each.seed) not in begun and self._lives(each.number)
        ]
        return list(dict.fromkeys(requested + self._missing_seeds(begun, TrialState.COMPLETE)))

    def reserved(self) -> int:
        """How many more units the running and complete settings need to have all their seeds."""
        due = self._missing_seeds(self._begun(), TrialState.COMPLETE, TrialState.RUNNING)
        return sum(kind_of(seed.number) == "search" for seed in due)

    def confirmations(self) -> list[Extension]:
        """The confirmation seeds that the last choice lacks, those of the baselines first."""
        if not self.rounds:
            return []
        chosen, begun, seeds = self.rounds[-1], self._begun(), self._config.search.confirmation_seeds
        tuned = [each for each in self._baselines_of(chosen.settings) if each not in self._config.baselines]
        own = [f"{BASELINE_PREFIX}{row.number}" for row in self._baselines if candidate_of(row) in tuned]
        return [
            Extension(number, seed, "confirmation")
            for number in dict.fromkeys([*chosen.baselines, *own, *chosen.settings])
            for seed in range(chosen.first_seed, chosen.first_seed + seeds)
            if (number, seed) not in begun and self._lives(number)
        ]

    def contenders_baselines(self, records: Sequence[TrialRecord]) -> list[Candidate]:
        """The baselines at the contenders' own values (a learning rate, a width) that no unit has begun.

        The contenders are the settings to confirm; without a confirmation, the front of ``records`` (of all units).
        """
        if self._config.search.confirmation_seeds:
            settings = self.rounds[-1].settings if self.rounds else ()
        else:
            front = contenders(records, self._config.objectives, self._config.bounds)
            settings = tuple(record.number for record in front if not self._is_foreign(record))
        return self._untried(self._baselines_of(settings))

    def choose(self, settings: Iterable[TrialRecord], baselines: Sequence[str], units: int) -> None:
        """Takes the search's choice, records of settings and numbers of baselines; a changed choice begins a round."""
        numbers = tuple(record.number for record in settings if not self._is_foreign(record))
        numbers = numbers[: self._config.search.most_confirmed]
        last = self.rounds[-1] if self.rounds else None
        if last is not None and (set(last.settings), set(last.baselines)) == (set(numbers), set(baselines)):
            self.rounds[-1] = replace(last, units=units)
        else:
            first = FIRST_CONFIRMATION_SEED + len(self.rounds) * self._config.search.confirmation_seeds
            self.rounds.append(Round(numbers, tuple(baselines), first, units))

    def states(self, role: Role) -> Counter[str]:
        """How many of the run's own further seeds of a role are in each state; for ``search``, without baselines."""
        return Counter(
            STATES[row.state]
            for row, extension in extended(self._extensions)
            if extension.role == role
            and (role == "confirmation" or kind_of(extension.number) == "search")
            and ORIGIN not in row.user_attrs
        )

    def _is_foreign(self, record: TrialRecord) -> bool:
        """Whether a setting was trained on another problem, so that seeds of this problem say nothing about it."""
        return record.origin is not None and self._config.search.warm_start_force

    def _baselines_of(self, settings: Iterable[str]) -> list[Candidate]:
        """The baselines with the settings' values of all parameters except the loss's."""
        candidates = [candidate_of(self._search[split_number(number)[1]]) for number in settings]
        due: list[Candidate] = []
        for candidate in candidates:
            due += [each for each in self._config.baselines_for(candidate) if each not in due]
        return due

    def _lives(self, number: str) -> bool:
        prefix, count = split_number(number)
        trials = self._baselines if prefix == BASELINE_PREFIX else self._search
        return trials[count].state not in (TrialState.FAIL, TrialState.PRUNED)

    def _missing_seeds(self, begun: Collection[tuple[str, int]], *states: TrialState) -> list[Extension]:
        """The search seeds that the run's own settings in these states lack, those of baselines first."""
        return [
            Extension(f"{prefix}{trial.number}", seed, "search")
            for prefix, trials in ((BASELINE_PREFIX, self._baselines), ("", self._search))
            for trial in trials
            if trial.state in states and ORIGIN not in trial.user_attrs
            # With racing, the seeds of settings are chosen one by one and never due.
            for seed in range(1, self._config.train.replicates if prefix or not self._config.search.racing else 1)
            if (f"{prefix}{trial.number}", seed) not in begun
        ]

    def _begun(self, finished_only: bool = False) -> set[tuple[str, int]]:
        """(number, seed) of every further seed that has not failed."""
        return {(each.number, each.seed) for row, each in extended(self._extensions) if _counts(row, finished_only)}

    def _untried(self, candidates: Iterable[Candidate], finished_only: bool = False) -> list[Candidate]:
        tried = [candidate_of(trial) for trial in self._baselines if _counts(trial, finished_only)]
        return [candidate for candidate in candidates if candidate not in tried]


def _counts(trial: FrozenTrial, finished_only: bool) -> bool:
    return trial.state != TrialState.FAIL and (trial.state.is_finished() or not finished_only)
