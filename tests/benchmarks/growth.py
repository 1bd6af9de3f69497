"""What a trial costs the driver as a search grows: trivial trials through the real ledger, searcher and Tune loop.

    python -m tests.benchmarks.growth [--trials 100,1000,10000] [--samplers tpe,random] [--direct] [--json FILE]
    python -m tests.benchmarks.growth --asks [--trials 24,100,500,2000] [--samplers tpe,nehvi]

Each size of each sampler runs in its own process, with its own study in a SQLite file. The trial class reports one
epoch and a result at once, so only the cost of the search itself is left: Optuna's suggestion, the ledger's writes, the
progress display, and Tune. MLflow is left out: a thread writes to it and drops what it cannot keep up with.
``--direct`` leaves Ray out too and drives the searcher in a loop: that is where costs grow.

The clock runs from the end of the first trial to the end of the search. The start of Ray and Tune does not count; it
would flatter the larger sizes. ``cpu`` and ``wall`` are the driver's milliseconds per trial (mean over all trials),
``last`` the wall time per trial over the last 100, ``peak`` the largest resident memory of the driver, and ``volume``
the hypervolume of the front. The last columns compare with the smallest size. ``gp`` is not meant for 10,000 trials:
Optuna fits it to all of them, and its cost per trial grows with their square.

``--asks`` measures samplers that take seconds: what one ask costs after so many units (random settings with two seeds
each), in CPU seconds, the mean of three asks.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from ray import tune
from rich.console import Console

import search.sweep.driver
import search.sweep.observers
import search.sweep.signals
import search.worker.trial
from analysis.records import TrialRecord
from search.cluster.session import connected
from search.config import parse
from search.results.metrics import Score, UnitResult
from search.runs.folder import Run
from search.study import Lease, Ledger, open_storage
from search.sweep.observers import Progress
from search.sweep.tune import LedgerSearcher
from search.tracking.mirror import Setting
from search.tracking.queue import Tracker
from search.worker.trial import CANDIDATE, EPOCH, NUMBER, OWNER, RESULT, UNITS
from tests.search.examples import unit_result

CONCURRENCY: Final = 2
TAIL: Final = 100  # trials
REPOSITORY: Final = Path(__file__).parents[2]
_ASKS: Final = 3
_OWNER: Final = 1  # a new study's first lease


@dataclass(frozen=True)
class Cost:
    """What one search cost its driver: milliseconds per trial, and megabytes."""

    sampler: str
    trials: int
    cpu: float
    wall: float
    last: float
    peak: float
    hypervolume: float


def outcome(parameters: Mapping[str, float]) -> tuple[float, float]:
    """Clean and robust accuracy of a made-up problem whose front is a curve; fractions of 1,000 and 500 images."""
    s, m = parameters.get("s", 1.0), parameters.get("m", 0.0)
    clean = 0.99 - 0.05 * (s - 1) ** 2 - 20 * (m - 0.03) ** 2
    robust = 0.30 + 0.30 * (s - 1) - 80 * (m - 0.06) ** 2
    return round(1000 * clean) / 1000, round(500 * robust) / 500


def reports(config: Mapping[str, Any], owner: int) -> list[dict[str, Any]]:
    """The reports of a trial of one unit: one epoch, then the result."""
    [unit] = config[UNITS]
    number = unit[NUMBER]
    clean, robust = outcome(unit[CANDIDATE]["parameters"])
    epoch = {"epoch": 1, "seconds": 0.1, "train_loss": 0.5, "validation_loss": 0.5, "validation_accuracy": clean}
    attacked = {"robust_accuracy": robust, **{f"pgd50-ce/{view}": robust for view in ("normalized", "raw")}}
    scores = {
        "clean_accuracy": Score(clean, images=(0, 1000)),
        **{name: Score(value, images=(0, 500)) for name, value in attacked.items()},
        "train_seconds": Score(0.1),
        "attack_seconds": Score(0.1),
    }
    result = UnitResult(0, 1, "search", scores).to_json()
    return [
        {OWNER: owner, EPOCH: json.dumps({number: epoch})},
        {OWNER: owner, RESULT: json.dumps({number: result}), "done": True},
    ]


class TrivialTrial(tune.Trainable):
    """Reports one epoch, then its result."""

    def setup(self, config: dict[str, Any], owner: int, **_: Any) -> None:  # type: ignore[override]
        self._owner = owner
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports = iter(reports(new_config, self._owner))
        return True

    def step(self) -> dict[str, Any]:
        return next(self._reports)


class Clock:
    """Takes the place of MLflow's tracker and records when each trial ended."""

    def __init__(self) -> None:
        self.began = self.cpu_began = 0.0
        self.ends: list[float] = []
        self.problem: str | None = None

    def update(
        self, record: TrialRecord, history: Sequence[Mapping[str, float]], setting: Setting | None = None
    ) -> None:
        del history, setting
        if record.state != "complete":
            return
        if self.began:
            self.ends.append(time.perf_counter())
        else:
            self.began, self.cpu_began = time.perf_counter(), time.process_time()

    def summary(self, metrics: Mapping[str, float], step: int, when: float) -> None:
        pass

    def front(self, numbers: Collection[str]) -> None:
        pass


def measure(sampler: str, trials: int, direct: bool) -> Cost:
    """Runs one search in this process."""
    search_settings = {"sampler": sampler, "trials": trials, "concurrency": CONCURRENCY}
    if sampler == "grid":
        search_settings["grid"] = {"s": math.ceil(trials**0.5), "m": math.ceil(trials**0.5)}
    config = parse({"name": "growth", "search": search_settings})
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        run = Run(Path(folder), config)
        ledger = Ledger(open_storage(run.storage_url), config, "new")
        ledger.adopt()
        progress = Progress(config, Console(), quiet=True)
        progress.begin([], ledger.extensions, lambda: ledger.reference)
        mirror = search.sweep.observers.MLflowObserver(ledger, cast("Tracker", clock), config)
        if direct:
            _drive(LedgerSearcher(ledger, _OWNER, CONCURRENCY, [progress, mirror], lambda _: None))
        else:
            search.worker.trial.SettingTrial = TrivialTrial  # type: ignore[assignment, misc]
            with connected(config, None) as connection, search.sweep.signals.handled_signals() as signals:
                lease = Lease(ledger.engine, config.name)
                assert lease.epoch == _OWNER
                driver = search.sweep.driver.Driver(run, ledger, lease, mirror, progress, signals, connection)
                search.sweep.driver._run_trials(driver)
                lease.release()
    assert ledger.complete
    count = len(clock.ends)
    tail = min(TAIL, count - 1)
    return Cost(
        sampler=sampler,
        trials=trials,
        cpu=1000 * (time.process_time() - clock.cpu_began) / count,
        wall=1000 * (clock.ends[-1] - clock.began) / count,
        last=1000 * (clock.ends[-1] - clock.ends[-1 - tail]) / tail,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        hypervolume=progress.standing.hypervolume,
    )


def ask_seconds(sampler: str, units: int) -> float:
    """CPU seconds of the driver for one suggestion after a search of so many units (an even number)."""
    storage = InMemoryStorage()
    settings = {"name": "growth", "train": {"replicates": 2}, "search": {"sampler": "random", "trials": units}}
    before = Ledger(storage, parse(settings), "new")
    before.adopt()
    while (unit := before.ask()) is not None:
        clean, robust = outcome(unit.candidate.parameters)
        noise = np.random.default_rng([unit.seed, before.counts().complete]).normal(0, 0.01, 2)
        values = {"clean_accuracy": clean + 0.1 * noise[0], "robust_accuracy": robust + noise[1]}
        before.finish(unit.number, unit_result(values, seed=unit.seed))
    more = {"train": {}, "search": {"sampler": sampler, "trials": units + _ASKS + 1}}
    ledger = Ledger(storage, parse({**settings, **more}), "resume")
    ledger.adopt()
    ledger.ask()  # imports what the sampler needs
    began = time.process_time()
    for _ in range(_ASKS):
        assert ledger.ask() is not None
    return (time.process_time() - began) / _ASKS


def _drive(searcher: LedgerSearcher) -> None:
    """Calls the searcher as Tune does, with the same number of trials at a time, and does nothing else."""
    running: list[tuple[str, dict[str, Any]]] = []
    started = 0
    while True:
        while isinstance(suggestion := searcher.suggest(str(started)), dict):
            running.append((str(started), suggestion))
            started += 1
        searcher.check()
        if not running:
            return
        trial_id, suggestion = running.pop(0)
        epoch, result = reports(suggestion, _OWNER)
        searcher.goes_on(trial_id, epoch)
        searcher.on_trial_complete(trial_id, result)


def measure_in_subprocess(sampler: str, trials: int, direct: bool) -> Cost:
    """Runs one search in its own process."""
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--one", f"{sampler},{trials}"]
    command += ["--direct"] if direct else []
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def table(costs: Sequence[Cost]) -> str:
    """The costs as text; the last columns are relative to each sampler's smallest size."""
    lines = ["sampler   trials   cpu ms  wall ms  last ms  peak MB   volume     cpu   wall"]
    for cost in costs:
        base = min((other for other in costs if other.sampler == cost.sampler), key=lambda other: other.trials)
        lines.append(
            f"{cost.sampler:<8}{cost.trials:>8}{cost.cpu:>9.1f}{cost.wall:>9.1f}{cost.last:>9.1f}{cost.peak:>9.0f}"
            f"{cost.hypervolume:>9.5f}{cost.cpu / base.cpu:>7.2f}x{cost.wall / base.wall:>6.2f}x"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures every size of every sampler and prints the costs."""
    parser = argparse.ArgumentParser(description="The driver's cost per trial as a search grows.")
    parser.add_argument("--trials", default="100,1000,10000", help="sizes, e.g. 100,1000")
    parser.add_argument("--samplers", default="tpe,random", help="e.g. tpe,random,nsga2")
    parser.add_argument("--direct", action="store_true", help="without Ray")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--asks", action="store_true", help="measure single asks")
    arguments = parser.parse_args()
    if arguments.asks:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        for sampler in arguments.samplers.split(","):
            for units in map(int, arguments.trials.split(",")):
                print(f"{sampler:<8}{units:>8}{ask_seconds(sampler, units):>9.3f} s", flush=True)
        return
    if arguments.one:
        sampler, trials = arguments.one.split(",")
        print(json.dumps(asdict(measure(sampler, int(trials), arguments.direct))))
        return
    costs = []
    for sampler in arguments.samplers.split(","):
        for trials in map(int, arguments.trials.split(",")):
            costs.append(measure_in_subprocess(sampler, trials, arguments.direct))
            print(table(costs).splitlines()[-1], flush=True)
    print(table(costs))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
