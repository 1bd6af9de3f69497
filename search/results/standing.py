"""Where a sweep stands: counts, the best of each objective, and the front's hypervolume."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import gt, lt
from typing import Self

from analysis.hypervolume import Reference, SearchFront, reference_from
from analysis.pareto import complete_search_trials, pareto_front
from analysis.records import TrialRecord, kind_of
from search.config import StudyConfig
from search.results.final import settings_of


class Standing:
    """Where a sweep stands, unit by unit: what the panel, ``status`` and MLflow's parent run all show.

    All numbers are those of ``final.settings_of``. ``reference`` gives the hypervolume's reference; None until the
    baselines' first seeds have finished.

    Attributes:
        finished: Units of the search that are complete or pruned.
        pruned: Those that were stopped early.
        failed: Failed units, baselines included.
        extensions: Complete units that confirm contenders, and further seeds of baselines.
        infeasible: Complete settings that miss a constraint.
        best: The best setting of each objective among those that miss none.
        front: The settings that no other dominates, among those that miss no constraint.
    """

    def __init__(self, config: StudyConfig, reference: Callable[[], Reference | None]) -> None:
        self._config, self._find_reference = config, reference
        self._front = SearchFront(config.objectives)
        self._units: dict[str, TrialRecord] = {}
        self._reference: Reference | None = None
        self.finished = self.pruned = self.failed = self.extensions = self.infeasible = 0
        self.best: dict[str, TrialRecord] = {}
        self.front: list[TrialRecord] = []

    @classmethod
    def of(cls, records: Iterable[TrialRecord], config: StudyConfig, reference: Callable[[], Reference | None]) -> Self:
        """Where a sweep with these units stands."""
        standing = cls(config, reference)
        for record in records:
            standing._count(record)
            standing._units[record.number] = record
        standing._judge_all()
        return standing

    @property
    def baselines(self) -> int:
        """Complete baselines; those at a contender's own values come later and do not count."""
        complete = sum(record.is_baseline and record.state == "complete" for record in self._units.values())
        return min(complete, len(self._config.baselines))

    @property
    def audits(self) -> int:
        """Audited units."""
        return sum(record.verdict is not None for record in self._units.values())

    @property
    def reference(self) -> Reference | None:
        """What the hypervolume is measured from; once known, it stays."""
        if self._reference is None:
            self._reference = self._find_reference()
            if self._reference is not None:
                self._front.refer_to(self._reference)
        return self._reference

    @property
    def hypervolume(self) -> float:
        """Of the settings that meet the constraints; 0 without a reference."""
        return self._front.hypervolume if self.reference is not None else 0.0

    def add(self, record: TrialRecord) -> None:
        """Takes a unit that has ended, or one of these again after its audit."""
        known = record.number in self._units
        self._units[record.number] = record
        if not known:
            self._count(record)
        if record.state == "complete" and (known or record.extends is not None):
            self._judge_all()  # a mean over more seeds, or an audited number, may be worse
        elif not known:
            self._judge(settings_of([record], self._config.bounds))

    def _count(self, record: TrialRecord) -> None:
        self.failed += record.state == "failed"
        # The search's budget is spent on settings' first units, and on further seeds for the search.
        of_search = record.role == "search" and kind_of(record.extends or record.number) == "search"
        if of_search and record.origin is None:
            self.finished += record.state in ("complete", "pruned")
            self.pruned += record.state == "pruned"
        elif record.extends is not None:
            self.extensions += record.state == "complete"

    def _judge_all(self) -> None:
        self._front, self.best, self.infeasible = SearchFront(self._config.objectives), {}, 0
        self.front = []
        if self._reference is not None:
            self._front.refer_to(self._reference)
        self._judge(settings_of(self._units.values(), self._config.bounds))

    def _judge(self, settings: Iterable[TrialRecord]) -> None:
        complete = complete_search_trials(settings)
        candidates = [*self.front, *(setting for setting in complete if setting.feasible)]
        self.front = pareto_front(candidates, self._config.objectives)
        for setting in complete:
            if not setting.feasible:
                self.infeasible += 1
                continue
            self._front.take(setting)
            for name, direction in self._config.objectives.items():
                best, better = self.best.get(name), gt if direction == "maximize" else lt
                if best is None or better(setting.objectives[name], best.objectives[name]):
                    self.best[name] = setting


def reference_of(records: Iterable[TrialRecord], config: StudyConfig) -> Reference | None:
    """The reference of a run's hypervolume, by the baselines' numbers; None until their first seeds have finished."""
    first = [record for record in records if record.is_baseline and record.state == "complete"]
    baselines = settings_of(first[: len(config.baselines)], config.bounds)  # those at a contender's values come later
    if len(baselines) < max(len(config.baselines), 1):
        return None
    return reference_from([baseline.objectives for baseline in baselines], config.objectives)
