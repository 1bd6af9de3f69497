"""Tune's searcher over the ledger: Tune asks for settings here, and what its trials give goes into the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol, TypeVar

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from analysis.records import TrialRecord
from search.errors import Halted
from search.results.metrics import rung_values
from search.runs.store import retrying
from search.study.halving import Halving
from search.study.ledger import Ledger, Task
from search.study.storage import may_pass, storage_reason
from search.worker.trial import EPOCH, FAILURE, HALT, NUMBER, OWNER, REPLICATES, RESULT, SETTING

STORAGE_SECONDS: Final = 60.0  # how long a storage that does not answer is waited for

T = TypeVar("T")


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

    Nothing raises into Tune, which would take it for the trial's failure: ``check`` does.

    Args:
        ledger: The account. This searcher keeps nothing of its own that a crash could lose.
        owner: The epoch of the driver's lease. Results of another's worker are refused.
        concurrency: Trials at a time; it may be changed later, as nodes come and go.
        observers: Told of every change, after the ledger.
        waiting: Told why while the storage does not answer, and nothing once it does.
        halving: Says at the rungs which trials go on; None to stop none.
    """

    def __init__(
        self,
        ledger: Ledger,
        owner: int,
        concurrency: int,
        observers: Sequence[Observer],
        waiting: Callable[[str], None],
        halving: Halving | None = None,
    ) -> None:
        super().__init__()
        self._ledger, self._owner, self._observers = ledger, owner, observers
        self.concurrency = concurrency
        self._waiting, self._halving = waiting, halving
        self._running: dict[str, Task] = {}
        self._exhausted = False  # until a running trial ends, the ledger has nothing to start
        self._error: Exception | None = None

    @property
    def winding_down(self) -> bool:
        """Whether nothing is left to start while the last trials run, unless one of them fails."""
        return self._exhausted

    def check(self) -> None:
        """Raises what went wrong since the last call, to be called outside Tune's own error handling."""
        if self._error is not None:
            raise self._error

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next setting as a Tune configuration; None to wait; FINISHED when nothing is left to do."""
        return self._guarded(lambda: self._suggest(trial_id))

    def goes_on(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Writes an epoch into the ledger, then says whether the trial goes on. `Stopping` asks before all else."""
        return self._guarded(lambda: self._epoch(trial_id, result)) is not False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Writes a trial's end into the ledger."""
        if self._guarded(lambda: self._end(trial_id, result, error)):
            self._exhausted = False

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        task = self._running.get(trial_id)  # there already where the storage went away just after the ask
        if task is None:
            if self._exhausted or len(self._running) >= self.concurrency:
                return None
            task = self._ledger.ask()
        if task is None:
            # A running trial may still fail and have to be replaced: not before it has ended is the search finished.
            self._exhausted = bool(self._running)
            return None if self._exhausted else Searcher.FINISHED
        self._running[trial_id] = task
        record = self._ledger.record(task.number)
        for observer in self._observers:
            observer.started(task, record)
        return {NUMBER: task.number, SETTING: asdict(task.setting), REPLICATES: task.replicates}

    def _epoch(self, trial_id: str, result: dict[str, Any]) -> bool:
        task = self._running.get(trial_id)
        if task is None or EPOCH not in result or result[OWNER] != self._owner:
            return True
        metrics = json.loads(result[EPOCH])
        self._ledger.report(task.number, metrics)
        for observer in self._observers:
            observer.epoch_finished(task.number, metrics)
        values = rung_values(metrics)
        if self._halving is None or values is None:
            return True
        return self._halving.report(task.number, int(metrics["epoch"]), values)

    def _end(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> bool:
        """Whether a trial of ours has ended."""
        task = self._running.get(trial_id)
        if task is None:
            return False
        if error or result is None:
            self._ledger.fail(task.number, "its worker process died")
        elif result[OWNER] != self._owner:
            return False
        elif RESULT in result:
            self._ledger.finish(task.number, json.loads(result[RESULT]))
        elif HALT in result:
            raise Halted(result[HALT])
        elif EPOCH in result:
            self._ledger.prune(task.number)
        else:
            self._ledger.fail(task.number, result.get(FAILURE, "it ended without a result"))
        record = self._ledger.record(task.number)
        del self._running[trial_id]
        for observer in self._observers:
            observer.ended(record)
        return True

    def _guarded(self, call: Callable[[], T]) -> T | None:
        """Calls with patience for the storage; what goes wrong is kept for ``check``, and nothing is done after it."""
        if self._error is not None:
            return None
        try:
            value = retrying(STORAGE_SECONDS, may_pass, lambda error: self._waiting(storage_reason(error)))(call)
            self._waiting("")
        except Exception as error:
            self._error = error
            return None
        return value

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: see ``save``."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its parts for ``Tuner.restore``, which we never use."""
        return {}


class Stopping(FIFOScheduler):
    """Tune's scheduler that stops the trials which the searcher says do not go on.

    A process that has come free goes to the trial that was suggested for it. Left to itself, Tune gives it to the trial
    that has waited longest, and ends the process that was starting for that one: while trials are shorter than a start
    times the processes still to start, those then never get to their end, and their slots stay empty.
    """

    def __init__(self, searcher: LedgerSearcher) -> None:
        super().__init__()
        self._searcher = searcher
        self._new: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Tune tells of a trial that the searcher has suggested."""
        del tune_controller
        self._new.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The trial that is to have a process next, a free one if there is one. Those that wait, Tune sees to."""
        del tune_controller
        return self._new.pop(0) if self._new else None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Tune asks after every result, before it tells the searcher."""
        del tune_controller
        return str(self.CONTINUE if self._searcher.goes_on(trial.trial_id, result) else self.STOP)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: see ``LedgerSearcher``."""
        return {}


def rebuilt(halving: Halving, ledger: Ledger) -> Halving:
    """Fills the rungs with all that the ledger holds, in the order in which it came.

    A trial that was to be stopped and whose driver died before it could write that down is stopped now.
    """
    results = [
        (epoch["time"], record.number, epoch)
        for record in ledger.records()
        if record.kind == "search" and record.origin is None  # whose run may have had other rungs
        for epoch in ledger.history(record.number)
    ]
    for _, number, epoch in sorted(results, key=lambda row: row[:2]):
        values = rung_values(epoch)
        if values is not None and not halving.report(number, int(epoch["epoch"]), values):
            ledger.prune(number)
    return halving


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
