"""Which units are due beside the sampler's suggestions: baselines, and further seeds of settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from analysis.records import BASELINE_PREFIX, Kind, TrialRecord, kind_of, split_number
from search.config import SweepConfig
from search.results.final import contenders
from search.results.metrics import Role
from search.study.trials import ORIGIN, Extension, Trials, candidate_of, extension_of
from trainables.candidate import Candidate


@dataclass(frozen=True)
class Counts:
    """How many units stand where; ``budget`` is how many are to be finished.

    ``imported`` are those of earlier runs, which count for nothing else.
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


class Due:
    """What is due, worked out from the rows alone, so that a resumed sweep finds the same.

    Args:
        config: The sweep.
        search: The search's study: each setting's first unit.
        baselines: The same of the baselines.
        extensions: The further seeds of both.
        requests: The seeds that were asked for with ``Ledger.extend``.
    """

    def __init__(
        self,
        config: SweepConfig,
        search: Trials,
        baselines: Trials,
        extensions: Trials,
        requests: Callable[[], Sequence[Extension]],
    ) -> None:
        self._config = config
        self._search, self._baselines, self._extensions = search, baselines, extensions
        self._requests = requests

    def baselines(self, *, finished_only: bool = False) -> list[Candidate]:
        """The baselines that no unit has begun (or, with ``finished_only``, finished); failed ones do not count."""
        return _without(self._config.baselines, self._present_baselines(finished_only))

    def seeds(self, *, finished_only: bool = False) -> list[Extension]:
        """Further seeds for the search that no unit has begun (or finished).

        First those requested, then seeds 1 to ``train.replicates`` - 1 of every complete setting.
        """
        due = [request for request in self._requests() if self._may_be_extended(request.number)]
        for number, _ in self._own(TrialState.COMPLETE):
            due += [Extension(number, seed, "search") for seed in range(1, self._config.train.replicates)]
        if not due:
            return []
        begun = self._begun(finished_only=finished_only)
        return [seed for seed in dict.fromkeys(due) if (seed.number, seed.seed) not in begun]

    def reserved(self) -> int:
        """How many units the settings that run or are complete still need to have all their seeds."""
        further = self._config.train.replicates - 1
        if further == 0:
            return 0
        begun = self._begun()
        own = (
            number for number, _ in self._own(TrialState.COMPLETE, TrialState.RUNNING) if kind_of(number) == "search"
        )
        return sum((number, seed) not in begun for number in own for seed in range(1, further + 1))

    def confirmations(self, records: Sequence[TrialRecord]) -> list[Extension]:
        """The seeds that contenders and baselines lack, in the order of ``contenders``.

        As results come in, other settings may come to the front, and a setting that came late may leave it again before
        it has all its seeds. No seed is trained twice, so this ends.

        Args:
            records: All units.
        """
        most = self._config.search.replicates_for_front
        if most is None:
            return []
        begun = self._begun()
        return [
            Extension(record.number, seed, "confirmation")
            for record in self._contenders(records)
            for seed in range(1, most)
            if (record.number, seed) not in begun
        ]

    def contenders_baselines(self, records: Sequence[TrialRecord]) -> list[Candidate]:
        """The baselines at the contenders' own values (a learning rate, a width) that no unit has begun.

        Args:
            records: All units.
        """
        due: list[Candidate] = []
        for record in self._contenders(records):
            if not record.is_baseline:
                candidate = candidate_of(self._search[split_number(record.number)[1]])
                due += _without(self._config.baselines_for(candidate), due)
        return _without(due, self._present_baselines(finished_only=False))

    def states(self, role: Role, of: Kind | None = None) -> Counter[TrialState]:
        """How many of the run's own further seeds are in each state.

        Args:
            role: What they are for.
            of: Whether they extend settings of the search or baselines; both where it is None.
        """
        return Counter(
            row.state
            for row, extension in self._extended()
            if extension.role == role and of in (None, kind_of(extension.number)) and ORIGIN not in row.user_attrs
        )

    def unfinished(self) -> bool:
        """Whether a baseline or a further seed is still running."""
        return bool(self._baselines.unfinished or self._extensions.unfinished)

    def _contenders(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """All but those of another problem: more seeds of this problem say nothing about them."""
        config = self._config
        records = contenders(records, config.objectives, config.bounds)
        return [record for record in records if record.origin is None or not config.search.warm_start_force]

    def _own(self, *states: TrialState) -> Iterator[tuple[str, FrozenTrial]]:
        """The run's own settings in one of these states, baselines first."""
        for prefix, trials in ((BASELINE_PREFIX, self._baselines), ("", self._search)):
            for trial in trials:
                if trial.state in states and ORIGIN not in trial.user_attrs:
                    yield f"{prefix}{trial.number}", trial

    def _may_be_extended(self, number: str) -> bool:
        prefix, count = split_number(number)
        trials = self._baselines if prefix == BASELINE_PREFIX else self._search
        return trials[count].state not in (TrialState.FAIL, TrialState.PRUNED)

    def _extended(self) -> Iterator[tuple[FrozenTrial, Extension]]:
        for row in self._extensions:
            extension = extension_of(row)
            assert extension is not None
            yield row, extension

    def _begun(self, *, finished_only: bool = False) -> set[tuple[str, int]]:
        """(number, seed) of every further seed that has not failed."""
        return {
            (extension.number, extension.seed)
            for row, extension in self._extended()
            if _counts(row, finished_only=finished_only)
        }

    def _present_baselines(self, finished_only: bool) -> list[Candidate]:
        return [candidate_of(trial) for trial in self._baselines if _counts(trial, finished_only=finished_only)]


def _counts(trial: FrozenTrial, *, finished_only: bool) -> bool:
    return trial.state != TrialState.FAIL and (trial.state.is_finished() or not finished_only)


def _without(candidates: Iterable[Candidate], present: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate not in present]
