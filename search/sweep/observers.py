"""What follows a sweep beside its ledger."""

from __future__ import annotations

from typing import Protocol

from analysis.records import TrialRecord
from search.config import SweepConfig
from search.results.standing import Standing
from search.study import Ledger
from search.tracking import Tracker


class Observer(Protocol):
    """Something that follows a sweep: the terminal's progress, MLflow. Called after the ledger has been written."""

    def started(self, record: TrialRecord) -> None:
        """A unit begins, or continues after its driver's or worker's death."""

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None:
        """A unit has finished an epoch."""

    def ended(self, record: TrialRecord) -> None:
        """A unit has ended, completely or not."""

    def audited(self, record: TrialRecord) -> None:
        """A unit has been audited."""


class MLflowObserver:
    """Keeps MLflow in step with the ledger."""

    def __init__(self, ledger: Ledger, tracker: Tracker, config: SweepConfig) -> None:
        self._ledger, self._tracker, self._last_end = ledger, tracker, 0.0
        self._standing = Standing(config, lambda: ledger.reference)

    @property
    def problem(self) -> str | None:
        """Why MLflow is behind; None while it is up to date."""
        return self._tracker.problem

    def catch_up(self) -> None:
        """Mirrors the whole ledger; what MLflow already has is not written again."""
        records = self._ledger.records()
        for record in records:
            self._show(record)
        for record in sorted((record for record in records if record.finished is not None), key=_order_of_ends):
            self._summarize(record)

    def started(self, record: TrialRecord) -> None:
        self._show(record)

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None:
        del metrics
        self._show(self._ledger.record(number))

    def ended(self, record: TrialRecord) -> None:
        self._show(record)
        self._summarize(record)

    audited = ended

    def _show(self, record: TrialRecord) -> None:
        """Updates a unit's MLflow run."""
        self._tracker.update(record, self._ledger.history(record.number))

    def _summarize(self, record: TrialRecord) -> None:
        """Adds a point to the sweep's curves for every unit that has ended and for every audit."""
        assert record.finished is not None
        standing = self._standing
        standing.add(record)
        self._last_end = max(self._last_end, record.finished)
        if record.origin is None and record.state in ("complete", "pruned"):
            # The curves follow the state alone, so that a resumed driver repeats no point.
            step = standing.finished + standing.baselines + standing.extensions + standing.audits
            values = {
                "trials_finished": standing.finished,
                "trials_infeasible": standing.infeasible,
                "trials_failed": standing.failed,
                "hypervolume": standing.hypervolume,
                **{f"best_{name}": best.objectives[name] for name, best in standing.best.items()},
            }
            self._tracker.summary(values, step, self._last_end)


def _order_of_ends(record: TrialRecord) -> tuple[float, str]:
    return record.finished or 0.0, record.number
