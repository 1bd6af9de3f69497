"""Tune's searcher over the ledger: Tune asks for settings here, and what its trials give goes into the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from ray import tune
from ray.tune.search import Searcher

from analysis.records import TrialRecord
from search.ledger import Ledger, Task
from search.trial import EPOCH, FAILURE, NUMBER, RESULT, SETTING


class Observer(Protocol):
    """What follows a sweep: the terminal's progress, MLflow. Called after the ledger has been written."""

    def started(self, task: Task, record: TrialRecord) -> None:
        """A trial begins, or goes on after its driver's or worker's death."""

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None:
        """A trial has finished an epoch."""

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended, completely or not."""


class LedgerSearcher(Searcher):
    """Suggests what the ledger says is next and tells it what came of it.

    Args:
        ledger: The account. This searcher keeps nothing of its own that a crash could lose.
        concurrency: Trials at a time.
        observers: Told of every change, after the ledger.
    """

    def __init__(self, ledger: Ledger, concurrency: int, observers: Sequence[Observer]) -> None:
        super().__init__()
        self._ledger, self._concurrency, self._observers = ledger, concurrency, observers
        self._running: dict[str, Task] = {}
        self._waiting = False  # for a running trial's end: until then the ledger has nothing to start

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next setting as a Tune configuration; None to wait; FINISHED when nothing is left to do."""
        if self._waiting or len(self._running) >= self._concurrency:
            return None
        task = self._ledger.ask()
        if task is None:
            # A running trial may still fail and have to be replaced: not before it has ended is the search finished.
            self._waiting = bool(self._running)
            return None if self._waiting else Searcher.FINISHED
        self._running[trial_id] = task
        record = self._ledger.record(task.number)
        for observer in self._observers:
            observer.started(task, record)
        return {NUMBER: task.number, SETTING: asdict(task.setting)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Writes an epoch into the ledger."""
        task = self._running.get(trial_id)
        if task is not None and EPOCH in result:
            metrics = json.loads(result[EPOCH])
            self._ledger.report(task.number, metrics)
            for observer in self._observers:
                observer.epoch_finished(task.number, metrics)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Writes a trial's end into the ledger."""
        task = self._running.pop(trial_id, None)
        if task is None:
            return
        self._waiting = False
        if error or result is None:
            self._ledger.fail(task.number, "its worker process died")
        elif RESULT in result:
            self._ledger.finish(task.number, json.loads(result[RESULT]))
        else:
            self._ledger.fail(task.number, result.get(FAILURE, "it ended without a result"))
        record = self._ledger.record(task.number)
        for observer in self._observers:
            observer.ended(record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: see ``save``."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its parts for ``Tuner.restore``, which we never use."""
        return {}


class EveryTurn(tune.Callback):
    """Calls functions in every turn of Tune's loop: between two turns is where a sweep can stop cleanly.

    Args:
        functions: Called in order; an exception ends Tune's run and reaches its caller.
    """

    def __init__(self, functions: Sequence[Callable[[], None]]) -> None:
        self._functions = functions

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        for function in self._functions:
            function()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: see ``LedgerSearcher``."""
        return {}
