"""Thousands of real trials on many slots: is the driver quick enough to keep all of them busy?

    python -m tests.benchmarks.scale [--trials 2000] [--slots 32] [--seconds 5]

Each trial sleeps in a worker process that imports no torch, on a Ray of this machine that counts ``slots`` processors;
ledger (SQLite), searcher, progress and Tune's loop are a sweep's own. ``utilisation`` is the time slept by the slots'
time, from the end of the first two rounds of trials to that of the last but one: once warm, before the end. 32 slots
of five seconds ask for 6.4 trials a second.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import psutil
from rich.console import Console

import search.cluster
import search.sweep
import search.trial
from search.config import parse
from search.lease import Lease
from search.ledger import Ledger, open_storage
from search.progress import Progress
from search.runs import Run
from search.tracking import Tracker
from tests.benchmarks.growth import Clock, TrivialTrial


class SleepingTrial(TrivialTrial):
    """Sleeps, as if it trained, before it reports its epoch."""

    def step(self) -> dict[str, Any]:
        report = super().step()
        if "done" not in report:
            time.sleep(_seconds())
        return report


def _seconds() -> float:
    """Set on the command line, and carried by the environment into the workers."""
    return float(os.environ["ROBUSTFRONT_SLEEP_SECONDS"])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="How busy the driver keeps many slots.")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each trial")
    arguments = parser.parse_args()
    _pretend(arguments.slots, arguments.seconds)
    config = parse(
        {
            "name": "scale",
            "search": {"trials": arguments.trials, "concurrency": arguments.slots},
        }
    )
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        run = Run(Path(folder), config)
        ledger = Ledger(open_storage(run.storage_url), config, "new")
        ledger.adopt()
        progress = Progress(config, Console(), quiet=True)
        mirror = search.sweep._Mirror(ledger, cast("Tracker", clock), config)
        with search.cluster.connected(config, None) as connection, search.sweep._signals() as signals:
            lease = Lease(ledger.engine, config.name)
            search.sweep._run_trials(run, ledger, lease, mirror, progress, signals, connection)
            lease.release()
        assert ledger.complete
    slots, ends = arguments.slots, clock.ends
    first, last = 2 * slots, len(ends) - slots
    span = ends[last - 1] - ends[first]
    count = last - 1 - first
    print(
        f"{arguments.trials} trials of {arguments.seconds:g} s on {slots} slots: utilisation "
        f"{count * arguments.seconds / (slots * span):.3f} over {count} trials, {count / span:.2f} trials a second; "
        f"driver: {1000 * (time.process_time() - clock.cpu_began) / len(ends):.0f} ms of processor a trial, peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "optuna"))
    print(f"n = 1; python {platform.python_version()}, {versions}; {psutil.cpu_count()} processors")


def _pretend(slots: int, seconds: float) -> None:
    """Many slots on few processors, and workers that import nothing beforehand."""
    os.environ["ROBUSTFRONT_SLEEP_SECONDS"] = str(seconds)
    count: Callable[[], int] = partial(int, slots)
    search.cluster.available_cpus = count
    search.cluster._ENVIRONMENT.pop("RAY_preload_python_modules")
    search.trial.SettingTrial = SleepingTrial  # type: ignore[assignment, misc]


if __name__ == "__main__":
    main()
