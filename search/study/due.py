"""Which units are due beside the sampler's suggestions: baselines, and further seeds of settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from analysis.records import BASELINE_PREFIX, TrialRecord, kind_of, split_number
from search.config import SweepConfig
from search.results.final import contenders
from search.results.metrics import Role
from search.study.trials import ORIGIN, STATES, Extension, Trials, candidate_of, extended
from trainables.candidate import Candidate


@dataclass(frozen=True)
class Counts:
    """How many units are in each state; ``budget`` is how many are to be finished.

    ``imported`` are those of earlier runs, which count for nothing else.
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


class Due:
    """What is due, worked out from the rows alone, so that a resumed sweep finds the same.

    ``search`` and ``baselines`` hold each setting's first unit, ``extensions`` the further seeds of both. ``requests``
    are the seeds that somebody has asked for.
    """

    def __init__(self, config: SweepConfig, search: Trials, baselines: Trials, extensions: Trials) -> None:
        self._config = config
        self._search, self._baselines, self._extensions = search, baselines, extensions
        self.requests: list[Extension] = []

    def baselines(self, *, finished_only: bool = False) -> list[Candidate]:
        """The baselines that no unit has begun (or, with ``finished_only``, finished); failed ones do not count."""
        return self._untried(self._config.baselines, finished_only)

    def seeds(self, *, finished_only: bool = False) -> list[Extension]:
        """The seeds that no unit has begun (or finished): those requested, then those of every complete setting.

        A setting that failed or was stopped early gets no further seed.
        """
        begun = self._begun(finished_only)
        requested = [each for each in self.requests if (each.number, each.seed) not in begun and self._lives(each)]
        return list(dict.fromkeys(requested + self._missing_seeds(begun, TrialState.COMPLETE)))

    def reserved(self) -> int:
        """How many units the settings that run or are complete still need to have all their seeds."""
        due = self._missing_seeds(self._begun(), TrialState.COMPLETE, TrialState.RUNNING)
        return sum(kind_of(seed.number) == "search" for seed in due)

    def confirmations(self, records: Sequence[TrialRecord]) -> list[Extension]:
        """The seeds that contenders and baselines lack, in the order of ``contenders``.

        As results come in, other settings may come to the front, and a setting that came late may leave it again before
        it has all its seeds. No seed is trained twice, so this ends. ``records`` are those of all units.
        """
        most, begun = self._config.search.replicates_for_front or 1, self._begun()
        return [
            Extension(record.number, seed, "confirmation")
            for record in self._contenders(records)
            for seed in range(1, most)
            if (record.number, seed) not in begun
        ]

    def contenders_baselines(self, records: Sequence[TrialRecord]) -> list[Candidate]:
        """The baselines at the contenders' own values (a learning rate, a width) that no unit has begun."""
        due: list[Candidate] = []
        for record in self._contenders(records):
            if not record.is_baseline:
                candidate = candidate_of(self._search[split_number(record.number)[1]])
                due += [each for each in self._config.baselines_for(candidate) if each not in due]
        return self._untried(due)

    def states(self, role: Role) -> Counter[str]:
        """How many of the run's own further seeds of a role are in each state; of role ``search``, no baseline's."""
        return Counter(
            STATES[row.state]
            for row, extension in extended(self._extensions)
            if extension.role == role
            and (role == "confirmation" or kind_of(extension.number) == "search")
            and ORIGIN not in row.user_attrs
        )

    def _contenders(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """All but those of another problem: more seeds of this problem say nothing about them."""
        config = self._config
        records = contenders(records, config.objectives, config.bounds)
        return [record for record in records if record.origin is None or not config.search.warm_start_force]

    def _lives(self, extension: Extension) -> bool:
        prefix, count = split_number(extension.number)
        trials = self._baselines if prefix == BASELINE_PREFIX else self._search
        return trials[count].state not in (TrialState.FAIL, TrialState.PRUNED)

    def _missing_seeds(self, begun: Collection[tuple[str, int]], *states: TrialState) -> list[Extension]:
        """The seeds for the search that the run's own settings in these states lack, those of baselines first."""
        return [
            Extension(f"{prefix}{trial.number}", seed, "search")
            for prefix, trials in ((BASELINE_PREFIX, self._baselines), ("", self._search))
            for trial in trials
            if trial.state in states and ORIGIN not in trial.user_attrs
            for seed in range(1, self._config.train.replicates)
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
