"""A search by many workers on a virtual clock: what it gains in time, loses in quality, and costs its driver.

    python -m tests.benchmarks.workers [--trials 2000] [--workers 1,8,32,200] [--samplers tpe,random] [--seeds 3]
                                       [--problem zdt1] [--json FILE]

Each search is like those of ``tests.benchmarks.halving``: a test problem with learning curves and noise through the
real ledger, sampler and halving (``tests.benchmarks.simulator``), with and without halving at the same number of
trials. A trial has nine epochs; its duration varies by up to a tenth. Every search runs in its own process. The
columns:

- ``busy``: the trials' virtual time divided by that of all workers until the last trial ends. Below 100 %, the search
  takes longer than the ideal by the inverse. Workers idle only at the end, when nothing is left to start.
- ``faster``: the makespan with the fewest workers divided by this one.
- ``@`` and a number: hypervolume after that many trials, of the fully trained settings' values without noise, in
  percent of the whole front's (mean over the seeds). ``difference`` is the paired difference of the final hypervolume
  from that of the fewest workers (Student, 95 %). ``by then`` is the hypervolume at the virtual time when the most
  workers have finished.
- ``trials``: trials (median over the seeds) to reach 99 % of the final hypervolume of the fewest workers. ``sooner``:
  how many times sooner than the fewest workers.
- ``ask``, ``report``, ``end``: the driver's CPU time in milliseconds for a suggestion, an epoch, and a trial's end.
  They are measured with the most workers and the first seed, whose ledger is a SQLite file; the other ledgers are in
  memory. ``trial`` is one whole trial, and ``wall`` its wall time, which includes waiting for the disk (the one of
  TMPDIR). ``trials/s`` is how many trials one driver could handle by its CPU time if it did nothing else.
  ``tests.benchmarks.growth`` measures what Tune and the display add, ``tests.benchmarks.scale`` whether real workers
  are kept busy.
- ``peak``: the largest resident memory of that process, in megabytes.
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, Final, TypeVar

import optuna
from optuna.storages import InMemoryStorage

from analysis.hypervolume import GrowingFront, hypervolume
from analysis.statistics import student_interval
from search.config.schema import rungs_of
from search.study import Halving, Ledger, Unit, open_storage
from tests.benchmarks.problems import NOISE, PROBLEMS, Problem, Training, search_config
from tests.benchmarks.simulator import Simulation, simulate
from tests.benchmarks.sweep_vs_naive import environment

EPOCHS: Final = 9
REDUCTION_FACTOR: Final = 3.0
SPEED_RATIO: Final = 2.0
RUNG_NOISE: Final = 0.05
TARGET: Final = 0.99
MARKS: Final = (0.125, 0.25, 1.0)  # shares of the trials
REPOSITORY: Final = Path(__file__).parents[2]

T = TypeVar("T")


@dataclass(frozen=True)
class Setup:
    """The setup of one search.

    Args:
        problem: Its name in ``PROBLEMS``.
        sampler: Its name in ``search.sampler``.
        halve: Whether halving stops trials.
        workers: Trials at a time.
        trials: Trials to finish, including stopped ones.
        seed: Seed of the search, the curves and the noise.
        on_disk: Whether the ledger is in a file, like a sweep's.
    """

    problem: str
    sampler: str
    halve: bool
    workers: int
    trials: int
    seed: int
    on_disk: bool


@dataclass(frozen=True)
class Search:
    """The outcome of one search.

    Args:
        makespan: Virtual seconds until the last trial's end; an epoch takes about one.
        work: Virtual seconds of all trials.
        epochs: Epochs of all trials.
        growth: (virtual seconds, trials ended, hypervolume as a share of the whole front's) whenever the last grew.
        cpu: The driver's mean CPU time in milliseconds, by kind of call.
        wall: The same in wall time.
        peak: Largest resident memory in megabytes.
    """

    makespan: float
    work: float
    epochs: int
    growth: tuple[tuple[float, int, float], ...]
    cpu: Mapping[str, float]
    wall: Mapping[str, float]
    peak: float

    def volume_after(self, trials: float) -> float:
        """The hypervolume when this many trials had ended."""
        return max((volume for _, ended, volume in self.growth if ended <= trials), default=0.0)

    def volume_at(self, seconds: float) -> float:
        """The hypervolume at a virtual time."""
        return max((volume for when, _, volume in self.growth if when <= seconds), default=0.0)

    def reached(self, volume: float) -> tuple[float, float]:
        """Virtual seconds and trials until the hypervolume reached ``volume``; infinite if it never did."""
        return next(
            ((when, float(ended)) for when, ended, reached in self.growth if reached >= volume), (math.inf, math.inf)
        )


class TimedLedger(Ledger):
    """A ledger that records the time of its driver's calls."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seconds: dict[str, list[tuple[float, float]]] = {"ask": [], "report": [], "end": []}

    def ask(self) -> Unit | None:
        unit = self._timed("ask", super().ask)
        if unit is None:  # nothing is left to suggest
            self.seconds["ask"].pop()
        return unit

    def report(self, number: str, metrics: Mapping[str, float]) -> None:
        self._timed("report", partial(super().report, number, metrics))

    def finish(self, number: str, result: Mapping[str, Any]) -> None:
        self._timed("end", partial(super().finish, number, result))

    def prune(self, number: str) -> None:
        self._timed("end", partial(super().prune, number))

    def _timed(self, what: str, call: Callable[[], T]) -> T:
        cpu, wall = time.process_time(), time.perf_counter()
        value = call()
        self.seconds[what].append((time.process_time() - cpu, time.perf_counter() - wall))
        return value


def run(setup: Setup) -> Search:
    """Runs one search in this process."""
    problem = PROBLEMS[setup.problem]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = search_config(
        problem,
        sampler=setup.sampler,
        seed=setup.seed,
        trials=setup.trials,
        concurrency=setup.workers,
        halving=setup.halve,
    )
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        storage = open_storage(f"sqlite:///{folder}/study.db") if setup.on_disk else InMemoryStorage()
        with closing(TimedLedger(storage, config, "new")) as ledger:
            ledger.adopt()
            rungs = rungs_of(EPOCHS, 1, REDUCTION_FACTOR)
            simulation = simulate(
                ledger,
                Training(problem, EPOCHS, setup.seed, SPEED_RATIO, RUNG_NOISE),
                concurrency=setup.workers,
                halving=Halving(problem.directions, rungs, REDUCTION_FACTOR) if setup.halve else None,
            )
            records = ledger.records()
            growth = _growth(problem, simulation, {record.number: record.parameters for record in records})
    return Search(
        makespan=simulation.ends[-1].time,
        work=sum(record.train_seconds for record in records),
        epochs=simulation.epochs,
        growth=tuple(growth),
        cpu={what: 1000 * mean(cpu for cpu, _ in seconds) for what, seconds in ledger.seconds.items()},
        wall={what: 1000 * mean(wall for _, wall in seconds) for what, seconds in ledger.seconds.items()},
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _growth(
    problem: Problem, simulation: Simulation, parameters: Mapping[str, Mapping[str, float]]
) -> list[tuple[float, int, float]]:
    """How the hypervolume of the fully trained settings grew."""
    directions, corner = list(problem.directions.values()), list(problem.reference.values())
    front = GrowingFront(directions)
    growth = []
    for ended, end in enumerate(simulation.ends, start=1):
        if end.objectives is None:
            continue
        if front.add(list(problem.values(parameters[end.number]).values())):
            growth.append((end.time, ended, hypervolume(front.points, directions, corner) / problem.volume))
    return growth


def run_in_subprocess(setup: Setup) -> Search:
    """Runs one search in its own process."""
    command = [sys.executable, "-m", "tests.benchmarks.workers", "--one", json.dumps(asdict(setup))]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    document = json.loads(done.stdout.splitlines()[-1])
    return Search(**{**document, "growth": tuple(map(tuple, document["growth"]))})


def rows(by_workers: Mapping[int, Sequence[Search]], trials: int) -> list[str]:
    """The table's lines for one sampler, with or without halving: by number of workers, one search per seed."""
    alone, most = by_workers[min(by_workers)], by_workers[max(by_workers)]
    lines = []
    for workers, searches in by_workers.items():
        pairs = list(zip(searches, alone, strict=True))
        reached = [search.reached(TARGET * base.volume_after(trials)) for search, base in pairs]
        needed = [base.reached(TARGET * base.volume_after(trials))[0] for base in alone]
        sooner = median(whole / when for (when, _), whole in zip(reached, needed, strict=True))
        cells = [
            f"{workers:>7}",
            f"{mean(search.work / (workers * search.makespan) for search in searches):>8.1%}",
            f"{mean(base.makespan / search.makespan for search, base in pairs):>7.1f}x",
            *(f"{100 * mean(search.volume_after(mark * trials) for search in searches):>8.2f}" for mark in MARKS),
            f"{_difference(pairs, trials):>22}",
            f"{100 * mean(search.volume_at(last.makespan) for search, last in zip(searches, most, strict=True)):>9.2f}",
            f"{median(ended for _, ended in reached):>8.0f}",
            f"{sooner:>7.1f}x",
        ]
        if workers == max(by_workers):
            cells += _costs(searches[0], trials)
        lines.append("".join(cells))
    return lines


def _costs(search: Search, trials: int) -> list[str]:
    cost = trial_cost(search.cpu, search.epochs / trials)
    return [
        *(f"{search.cpu[what]:>8.2f}" for what in ("ask", "report", "end")),
        f"{cost:>8.1f}",
        f"{trial_cost(search.wall, search.epochs / trials):>8.1f}",
        f"{1000 / cost:>9.1f}",
        f"{search.peak:>7.0f}",
    ]


def trial_cost(costs: Mapping[str, float], epochs: float) -> float:
    """The driver's milliseconds for one whole trial: a suggestion, this many epochs, and its end."""
    return costs["ask"] + costs["report"] * epochs + costs["end"]


def header(trials: int) -> str:
    """The line above ``rows``."""
    marks = "".join(f"{f'@{mark * trials:.0f}':>8}" for mark in MARKS)
    return (
        f"{'workers':>7}{'busy':>8}{'faster':>8}{marks}{'difference':>22}{'by then':>9}{'trials':>8}{'sooner':>8}"
        f"{'ask':>8}{'report':>8}{'end':>8}{'trial':>8}{'wall':>8}{'trials/s':>9}{'peak':>7}"
    )


def _difference(pairs: Sequence[tuple[Search, Search]], trials: int) -> str:
    """By how much the final hypervolume differs from that of the fewest workers, in points."""
    differences = [100 * (search.volume_after(trials) - base.volume_after(trials)) for search, base in pairs]
    interval = student_interval(differences)
    return f"{mean(differences):+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every search and prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.workers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--trials", type=int, default=2000, help="per search (default 2000)")
    parser.add_argument("--workers", default="1,8,32,200", help="trials at a time, e.g. 1,200")
    parser.add_argument("--samplers", default="tpe,random", help="e.g. tpe,random,nsga2")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind, at least 2 (default 3)")
    parser.add_argument("--problem", default="zdt1", choices=PROBLEMS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(asdict(run(Setup(**json.loads(options.one))))))
        return 0
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {options.seeds}; an interval needs two")
    numbers = sorted({int(workers) for workers in options.workers.split(",")})
    if numbers[0] < 1:
        parser.error(f"--workers must be at least 1, got {numbers[0]}; leave it out")
    where = environment()
    results = []
    print(header(options.trials), flush=True)
    for sampler in options.samplers.split(","):
        for halve in (False, True):
            setups = {
                workers: [
                    Setup(
                        options.problem,
                        sampler,
                        halve,
                        workers,
                        options.trials,
                        seed,
                        on_disk=seed == 0 and workers == max(numbers),
                    )
                    for seed in range(options.seeds)
                ]
                for workers in numbers
            }
            outcomes = {workers: list(map(run_in_subprocess, of_seeds)) for workers, of_seeds in setups.items()}
            print(f"{sampler}{', halving' if halve else ''}", *rows(outcomes, options.trials), sep="\n", flush=True)
            results += [
                {"setup": asdict(setup), "outcome": asdict(search)}
                for workers in numbers
                for setup, search in zip(setups[workers], outcomes[workers], strict=True)
            ]
    print(
        f"n = {options.seeds} seeds, paired (costs and peak: 1); {options.problem}, {options.trials} trials of "
        f"{EPOCHS} epochs; rungs {rungs_of(EPOCHS, 1, REDUCTION_FACTOR)}, reduction factor {REDUCTION_FACTOR:g}; "
        f"speed ratio {SPEED_RATIO:g}, noise {RUNG_NOISE:g} at the rungs and {NOISE:g} at the end"
    )
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if options.json is not None:
        document = {"environment": where, "results": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
