"""The background writer: it brings what a sweep tells it into MLflow without ever delaying the sweep.

One thread writes. It keeps only the newest state of each trial while it waits, and retries what fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from search.tracking.client import explain, is_server, shown
from search.tracking.mirror import ParentInfo, Setting, SweepRuns, SweepStatus

if TYPE_CHECKING:
    from analysis.records import TrialRecord

_ROUND_SECONDS: Final = 1.0  # between two rounds of writing, so that epochs that end meanwhile are sent together
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 1.0, 30.0
_CLOSING_ROUNDS: Final = 2
_CLOSE_SECONDS: Final = 20.0

# A write is pending under its kind and a name.
_SWEEP, _TRIAL, _SUMMARY, _FRONT, _RESULTS, _ARTIFACT, _END = (
    "sweep",
    "trial",
    "summary",
    "front",
    "results",
    "artifact",
    "end",
)


class Tracker:
    """Mirrors a sweep into MLflow. No method but ``close`` waits, and none raises.

    An experiment that is missing is created, and keeps its artifacts in ``artifact_root``.
    """

    def __init__(self, uri: str, experiment: str, sweep: str, *, artifact_root: Path | None = None) -> None:
        self._uri, self._experiment, self._sweep = uri, experiment, sweep
        # A server knows where its artifacts belong; it cannot use a local folder.
        self._artifact_root = None if is_server(uri) else artifact_root
        self._changed = threading.Condition()
        self._pending: dict[tuple[str, str], Callable[[SweepRuns], None]] = {}
        self._closing = self._abandoned = False
        self.problem: str | None = None  # why MLflow lags behind; None while it does not
        self._thread: threading.Thread | None = None

    def start(self, parent: ParentInfo) -> None:
        """Starts the thread, which creates the sweep's run or finds it again."""
        assert self._thread is None, "a tracker starts once"
        runs = SweepRuns(self._uri, self._experiment, self._artifact_root, self._sweep, parent)
        self._put((_SWEEP, self._sweep), lambda _: None)  # connecting does it
        self._thread = threading.Thread(target=self._work, args=(runs,), name="mlflow", daemon=True)
        self._thread.start()

    def update(
        self, record: TrialRecord, history: Sequence[Mapping[str, float]], setting: Setting | None = None
    ) -> None:
        """Writes the current state of a trial; what MLflow has already is not sent again.

        ``history`` has one mapping per finished epoch: ``epoch``, ``time`` (when it ended, Unix) and its metrics. A
        replicate's own metric is called ``NAME[r]``. ``setting`` is the one whose first unit the trial is, once that is
        complete.
        """
        write = partial(SweepRuns.trial, record=record, history=tuple(history), setting=setting)
        self._put((_TRIAL, record.number), write)

    def summary(self, metrics: Mapping[str, float], step: int, when: float) -> None:
        """Adds a point to the curves of the whole sweep. Steps never fall.

        ``when`` (Unix time) must always be the same for a step, so that writing a step again does not double it.
        """
        self._put((_SUMMARY, str(step)), partial(SweepRuns.summary, metrics=dict(metrics), step=step, when=when))

    def front(self, numbers: Collection[str]) -> None:
        """Marks the settings on the front, by the numbers of their first units, and no others."""
        self._put((_FRONT, self._sweep), partial(SweepRuns.front, numbers=frozenset(numbers)))

    def results(self, summary: str, table: str) -> None:
        """Describes the sweep by its summary (Markdown) and logs its front; see ``SweepRuns.results``."""
        self._put((_RESULTS, self._sweep), partial(SweepRuns.results, summary=summary, table=table))

    def artifact(self, path: Path) -> None:
        """Copies a file of the run's folder to the sweep's run and replaces an earlier copy."""
        self._put((_ARTIFACT, str(path)), partial(SweepRuns.artifact, path=path))

    def close(self, status: SweepStatus, timeout: float = _CLOSE_SECONDS) -> str | None:
        """Writes what is pending and the sweep's end; running trials are marked as killed until it is resumed.

        Returns:
            What MLflow lacks, and why, without secrets; None if it has everything.
        """
        if self._thread is None:
            return None
        self._put((_END, self._sweep), partial(SweepRuns.end, status=status))
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            self._abandoned = True
            if not self._pending:
                return None
            trials = sum(kind == _TRIAL for kind, _ in self._pending)
        missing = f"{trials} trial{'s' if trials > 1 else ''}" if trials else "the end of the sweep"
        return f"MLflow lacks {missing} ({self.problem or f'{shown(self._uri)} is too slow'})"

    def _put(self, key: tuple[str, str], write: Callable[[SweepRuns], None]) -> None:
        with self._changed:
            self._pending[key] = write
            self._changed.notify()

    def _work(self, runs: SweepRuns) -> None:
        pause, closing_rounds = 0.0, 0
        while closing_rounds < _CLOSING_ROUNDS:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, pause)
                self._changed.wait_for(lambda: self._closing or self._pending)
                if self._closing and not self._pending:
                    return
                closing_rounds += self._closing
            if self._write_pending(runs):
                self.problem = None
                pause = _ROUND_SECONDS
            else:
                pause = min(max(2 * pause, _FIRST_RETRY_SECONDS), _LAST_RETRY_SECONDS)

    def _write_pending(self, runs: SweepRuns) -> bool:
        """Tries once to write everything that is pending; returns whether all of it was written."""
        with self._changed:
            keys = tuple(self._pending)
        succeeded, summaries_fail = True, False
        for key in keys:
            if key[0] == _SUMMARY and summaries_fail:
                continue
            with self._changed:
                if self._abandoned:
                    return False
                write = self._pending[key]
            try:
                runs.connect()
            except Exception as error:  # whatever MLflow or a database driver raises, the sweep continues
                self.problem = explain(self._uri, error)
                return False
            try:
                write(runs)
            except Exception as error:
                self.problem = explain(self._uri, error)
                runs.disconnect()
                succeeded = False
                # MLflow records only the last step that was written: a later one would hide that this one is missing.
                summaries_fail |= key[0] == _SUMMARY
                continue
            with self._changed:
                if self._pending[key] is write:  # otherwise a newer state has arrived
                    del self._pending[key]
        return succeeded
