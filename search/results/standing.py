"""Where a sweep stands: counts, the best of each objective, and the front's hypervolume."""

from __future__ import annotations

from collections.abc import Iterable
from operator import gt, lt
from typing import Self

from analysis.hypervolume import Reference, SearchFront, reference_from
from analysis.pareto import complete_search_trials
from analysis.records import TrialRecord, kind_of
from search.config.schema import SweepConfig
from search.results.pooling import pooled


class Standing:
    """Where a sweep stands, trial by trial: what the panel, ``status`` and MLflow's parent run all show.

    ``finished`` are settings of the search itself that are complete or pruned; ``infeasible`` complete ones that miss a
    constraint; ``best`` the best of each objective among those that miss none; ``reference`` the hypervolume's
    reference, None until every baseline has finished. Where settings have further seeds, their pooled numbers count;
    ``extensions`` are the complete units that gave them and are not among the ``finished``.

    Args:
        config: The sweep.
    """

    def __init__(self, config: SweepConfig) -> None:
        self._config = config
        self._front = SearchFront(config.objectives)
        self._complete: list[TrialRecord] = []
        self._complete_baselines: list[TrialRecord] = []
        self._extensions: list[TrialRecord] = []
        self.finished = self.pruned = self.infeasible = self.failed = 0
        self.best: dict[str, TrialRecord] = {}
        self.reference: Reference | None = None

    @classmethod
    def of(cls, records: Iterable[TrialRecord], config: SweepConfig) -> Self:
        """Where a sweep with these trials stands."""
        standing = cls(config)
        for record in records:
            standing.add(record)
        return standing

    @property
    def baselines(self) -> int:
        """Complete baselines; those at a contender's own values come later and do not count."""
        return min(len(self._complete_baselines), len(self._config.baselines))

    @property
    def extensions(self) -> int:
        """Complete further seeds of baselines, and those that confirm contenders."""
        return sum(not _is_of_search(record) for record in self._extensions)

    @property
    def hypervolume(self) -> float:
        """Of the settings that meet the constraints; 0 without a reference."""
        return self._front.hypervolume

    def add(self, record: TrialRecord) -> None:
        """Counts a trial that has ended; one that runs changes nothing."""
        self.failed += record.state == "failed"
        if record.is_baseline:
            if record.state == "complete":
                self._complete_baselines.append(record)
                self._find_reference()
            return
        if record.kind == "replicates":
            self.finished += _is_of_search(record) and record.state == "complete" and record.origin is None
            if record.state == "complete":
                self._extensions.append(record)
                self._pool()
            return
        if record.origin is None:
            self.finished += record.state in ("complete", "pruned")
            self.pruned += record.state == "pruned"
        for candidate in complete_search_trials([record]):
            self._complete.append(candidate)
            self._judge(candidate)

    def _judge(self, candidate: TrialRecord) -> None:
        self._front.take(candidate)
        self.infeasible += not candidate.feasible
        if candidate.feasible:
            self._compare(candidate)

    def _pool(self) -> None:
        """Judges all again: a mean over more replicates may be worse, and a front that grows takes nothing back."""
        self._front, self.best, self.infeasible = SearchFront(self._config.objectives), {}, 0
        for candidate in pooled([*self._complete, *self._extensions], self._config.bounds):
            self._judge(candidate)
        if self.reference:
            self._front.refer_to(self.reference)

    def _compare(self, candidate: TrialRecord) -> None:
        for name, direction in self._config.objectives.items():
            best, better = self.best.get(name), gt if direction == "maximize" else lt
            if best is None or better(candidate.objectives[name], best.objectives[name]):
                self.best[name] = candidate

    def _find_reference(self) -> None:
        if not self.reference:
            self.reference = reference_of(self._complete_baselines, self._config)
            if self.reference:
                self._front.refer_to(self.reference)


def _is_of_search(record: TrialRecord) -> bool:
    """Whether a further seed counts for the search: what it extends is a setting of the search, not a baseline."""
    return record.role == "search" and record.extends is not None and kind_of(record.extends) == "search"


def reference_of(records: Iterable[TrialRecord], config: SweepConfig) -> Reference | None:
    """The reference of a run's hypervolume, from its baselines.

    The baselines are trained beside every search, under its budget and on its machine. No search result moves the
    reference, nor do the baselines' further replicates.

    Args:
        records: The run's trials, not pooled.
        config: The sweep.

    Returns:
        The reference; None until every baseline has finished.
    """
    complete = [record.objectives for record in records if record.is_baseline and record.state == "complete"]
    baselines = complete[: len(config.baselines)]  # those at a contender's own values come later
    if not baselines or len(baselines) < len(config.baselines):
        return None
    return reference_from(baselines, config.objectives)
