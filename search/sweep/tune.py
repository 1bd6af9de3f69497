"""Tune's searcher over the ledger: Tune asks here what to train, and the results of its trials go into the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from analysis.records import TrialRecord
from search.errors import Halted
from search.results.metrics import rung_values
from search.runs.store import retrying
from search.study import Halving, Ledger, Unit, may_pass, storage_reason
from search.sweep.observers import Observer
from search.worker.trial import CANDIDATE, EPOCH, FAILURE, HALT, NUMBER, OWNER, RESULT, ROLE, SEED, UNITS

STORAGE_SECONDS: Final = 60.0  # how long to wait for a storage that does not answer

T = TypeVar("T")


class _Unpickled:
    """Pickles as nothing: Tune pickles its parts for ``Tuner.restore``, which we never use."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LedgerSearcher(_Unpickled, Searcher):
    """Suggests what the ledger hands out, and reports the results to it. It holds no state that a crash could lose.

    A Tune trial takes a list of units, of length one for now. Nothing raises into Tune, which would take it for the
    trial's failure; ``check`` raises it later. Results from the workers of another owner (an epoch of the lease) are
    refused. ``concurrency`` may change as nodes come and go. ``waiting`` is called with the reason while the storage
    does not answer, and with nothing once it does.
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
        self._running: dict[str, list[Unit]] = {}  # by Tune's id of the trial
        self._unreported: list[tuple[Observer, TrialRecord]] = []  # ended trials to report to an observer
        self.winding_down = False  # nothing is left to start while the last trials run, unless one of them fails
        self._error: Exception | None = None

    def check(self) -> None:
        """Raises what has gone wrong. To be called outside Tune's own error handling."""
        if self._error is not None:
            raise self._error

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        """The next units as a Tune configuration; None to wait; FINISHED when nothing is left to do."""
        return self._guarded(lambda: self._suggest(trial_id))

    def goes_on(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Writes an epoch into the ledger and returns whether the trial continues. `Stopping` calls this first."""
        return self._guarded(lambda: self._epoch(trial_id, result)) is not False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Writes a trial's end into the ledger."""
        self._guarded(lambda: self._end(trial_id, None if error else result))

    def _suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        units = self._running.get(trial_id)  # set already if the storage went away just after the ask
        if units is None:
            if self.winding_down or len(self._running) >= self.concurrency:
                return None
            unit = self._ledger.ask()
            if unit is None:
                # A running trial may still fail and need a replacement: until it has ended, the search is not finished.
                self.winding_down = bool(self._running)
                return None if self.winding_down else Searcher.FINISHED
            self._running[trial_id] = units = [unit]
        for unit in units:
            record = self._ledger.record(unit.number)
            for observer in self._observers:
                observer.started(record)
        return {UNITS: [_document(unit) for unit in units]}

    def _epoch(self, trial_id: str, result: dict[str, Any]) -> bool:
        if trial_id not in self._running or EPOCH not in result or result[OWNER] != self._owner:
            return True
        goes_on = True
        for number, metrics in json.loads(result[EPOCH]).items():
            self._ledger.report(number, metrics)
            for observer in self._observers:
                observer.epoch_finished(number, metrics)
            values = rung_values(metrics)
            if self._halving is not None and values is not None:
                goes_on = self._halving.report(number, metrics["epoch"], values)
        return goes_on

    def _end(self, trial_id: str, result: dict[str, Any] | None) -> None:
        """Takes a trial's last result, or None if its worker died."""
        units = self._running.get(trial_id)
        if units is not None and (result is None or result[OWNER] == self._owner):
            if result is not None and HALT in result:
                raise Halted(result[HALT])
            for unit in units:
                self._write_end(unit.number, result)
            records = [self._ledger.record(unit.number) for unit in units]
            del self._running[trial_id]
            self.winding_down = False
            self._unreported += [(observer, record) for record in records for observer in self._observers]
        # An observer may read the storage. If that is unavailable, this is called again and reports only the rest.
        while self._unreported:
            observer, record = self._unreported[0]
            observer.ended(record)
            del self._unreported[0]

    def _write_end(self, number: str, result: dict[str, Any] | None) -> None:
        if result is None:
            self._ledger.fail(number, "its worker process died")
        elif RESULT in result:
            self._ledger.finish(number, json.loads(result[RESULT])[number])
        elif EPOCH in result:
            self._ledger.prune(number)
        else:
            self._ledger.fail(number, json.loads(result[FAILURE])[number])

    def _guarded(self, call: Callable[[], T]) -> T | None:
        """Calls with patience for the storage. An error is kept for ``check``; after one, nothing more is done."""
        if self._error is not None:
            return None
        try:
            value = retrying(STORAGE_SECONDS, may_pass, lambda error: self._waiting(storage_reason(error)))(call)
            self._waiting("")
            return value
        except Exception as error:
            self._error = error
            return None

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: see ``save``."""


def _document(unit: Unit) -> dict[str, Any]:
    return {NUMBER: unit.number, CANDIDATE: asdict(unit.candidate), SEED: unit.seed, ROLE: unit.role}


class Stopping(_Unpickled, FIFOScheduler):
    """Tune's scheduler, which stops the trials that the searcher does not let continue.

    A process that becomes free goes to the trial that was just suggested. By default Tune gives it to the trial that
    has waited longest, and kills the process that was starting for that one. While trials are short compared with the
    start of a process, such processes then never finish starting, and their slots stay empty.
    """

    def __init__(self, searcher: LedgerSearcher) -> None:
        super().__init__()
        self._searcher = searcher
        self._new: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        """Tune calls this for each trial that the searcher has suggested."""
        self._new.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:  # noqa: ARG002
        """The trial that gets a process next, a free one if there is one. Tune takes care of waiting trials."""
        return self._new.pop(0) if self._new else None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Tune calls this after every result, before it calls the searcher."""
        return str(self.CONTINUE if self._searcher.goes_on(trial.trial_id, result) else self.STOP)


class EveryTurn(_Unpickled, tune.Callback):
    """Calls functions, in order, between two turns of Tune's loop, where a sweep can stop cleanly.

    An exception ends Tune's run and reaches its caller.
    """

    def __init__(self, functions: Sequence[Callable[[], None]]) -> None:
        self._functions = functions

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        for function in self._functions:
            function()


def rebuilt(halving: Halving, ledger: Ledger) -> Halving:
    """Fills the rungs with the results in the ledger, in the order in which they came.

    If a driver died between the decision to stop a trial and writing it down, the trial is stopped now.
    """
    results = [
        (epoch["time"], record.number, epoch)
        for record in ledger.records()
        if record.kind == "search" and record.origin is None  # an earlier run may have had other rungs
        for epoch in ledger.history(record.number)
    ]
    for _, number, epoch in sorted(results, key=lambda row: row[:2]):
        values = rung_values(epoch)
        if values is not None and not halving.report(number, int(epoch["epoch"]), values):
            ledger.prune(number)
    return halving
