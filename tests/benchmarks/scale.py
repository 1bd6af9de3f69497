"""Thousands of real trials on many slots: is the driver quick enough to keep all of them busy?

    python -m tests.benchmarks.scale [--trials 2000] [--slots 32] [--seconds 5] [--start 0]

Each trial sleeps in a worker process that does not import torch, on a local Ray that is told to have ``slots``
processors. Ledger (SQLite), searcher, progress and Tune's loop are a sweep's own. ``utilisation`` is the time slept
divided by the slots' time, from when every slot has finished a trial (so that no worker has yet to start) until the
last trial begins. 32 slots with trials of five seconds need 6.4 trials per second. ``--start`` is the time in seconds
that each worker but the first takes to start.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, cast

import psutil
from rich.console import Console

import search.cluster.session
import search.sweep.driver
import search.sweep.observers
import search.sweep.signals
import search.worker.trial
from analysis.records import TrialRecord
from search.config import parse
from search.runs.folder import Run
from search.study import Lease, Ledger, open_storage
from search.sweep.observers import Progress
from search.tracking.mirror import Setting
from search.tracking.queue import Tracker
from search.worker.trial import EPOCH
from tests.benchmarks.growth import Clock, TrivialTrial

_SLEEP: Final = "ROBUSTFRONT_SLEEP"  # environment variable for the workers: seconds of a trial and of a start


class SleepingTrial(TrivialTrial):
    """Sleeps instead of training, then reports its epoch and its worker's process id."""

    def setup(self, config: dict[str, Any], owner: int, **options: Any) -> None:
        _, start = map(float, os.environ[_SLEEP].split())
        try:
            (Path(options["folder"]) / "first").mkdir()
        except FileExistsError:
            time.sleep(start)
        super().setup(config, owner, **options)

    def step(self) -> dict[str, Any]:
        report = super().step()
        if EPOCH in report:
            seconds, _ = map(float, os.environ[_SLEEP].split())
            time.sleep(seconds)
            epochs = {number: {**epoch, "worker": os.getpid()} for number, epoch in json.loads(report[EPOCH]).items()}
            report[EPOCH] = json.dumps(epochs)
        return report


class SlotClock(Clock):
    """Also records the workers, and how many trials had ended when every slot had finished one."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.workers = set[float]()
        self.warm: int | None = None
        self._slots = slots

    def update(
        self, record: TrialRecord, history: Sequence[Mapping[str, float]], setting: Setting | None = None
    ) -> None:
        super().update(record, history, setting)
        if record.state == "complete":
            self.workers.add(history[-1]["worker"])
            if self.warm is None and len(self.workers) >= self._slots:
                self.warm = len(self.ends)


def run(trials: int, slots: int, seconds: float, start: float) -> SlotClock:
    """Runs the sleeping trials. The process cannot be used for anything else afterwards."""
    os.environ[_SLEEP] = f"{seconds} {start}"
    count: Callable[[], int] = partial(int, slots)
    search.cluster.session.available_cpus = count  # many slots on few processors
    search.cluster.session._ENVIRONMENT.pop("RAY_preload_python_modules", None)
    search.worker.trial.SettingTrial = SleepingTrial  # type: ignore[assignment, misc]
    config = parse({"name": "scale", "search": {"trials": trials, "concurrency": slots}})
    clock = SlotClock(slots)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        run = Run(Path(folder), config)
        ledger = Ledger(open_storage(run.storage_url), config, "new")
        ledger.adopt()
        progress = Progress(config, Console(), quiet=True)
        mirror = search.sweep.observers.MLflowObserver(ledger, cast("Tracker", clock), config)
        with (
            search.cluster.session.connected(config, None) as connection,
            search.sweep.signals.handled_signals() as signals,
        ):
            lease = Lease(ledger.engine, config.name)
            driver = search.sweep.driver.Driver(run, ledger, lease, mirror, progress, signals, connection)
            search.sweep.driver._run_trials(driver)
            lease.release()
        assert ledger.complete
    return clock


def main() -> None:
    """Runs the trials and prints how busy the slots were."""
    parser = argparse.ArgumentParser(description="How busy the driver keeps many slots.")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of a trial")
    parser.add_argument("--start", type=float, default=0.0, help="start-up time of each worker but the first")
    arguments = parser.parse_args()
    slots, seconds = arguments.slots, arguments.seconds
    clock = run(arguments.trials, slots, seconds, arguments.start)
    cpu = (time.process_time() - clock.cpu_began) / len(clock.ends)
    print(f"{arguments.trials} trials of {seconds:g} s on {slots} slots, {len(clock.workers)} workers: ", end="")
    count = len(clock.ends) - slots - 1 - (clock.warm or 0)  # in the last round some slots have nothing left to do
    if clock.warm is None or count < 1:
        print("never warm; ", end="")
    else:
        span = clock.ends[clock.warm + count] - clock.ends[clock.warm]
        print(
            f"utilisation {count * seconds / (slots * span):.3f} over {count} trials once warm (after {clock.warm}), "
            f"{count / span:.2f} trials per second; ",
            end="",
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"driver: {1000 * cpu:.0f} ms of CPU time per trial, peak {peak:.0f} MB")
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "optuna"))
    print(f"n = 1; python {platform.python_version()}, {versions}; {psutil.cpu_count()} processors")


if __name__ == "__main__":
    main()
