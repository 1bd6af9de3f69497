"""A search by many workers on a virtual clock: what it gains in time, loses in quality, and costs its driver.

    python -m tests.benchmarks.workers [--trials 2000] [--workers 1,8,32,200] [--samplers tpe,random] [--seeds 3]
                                       [--problem zdt1] [--json FILE]

Each search is one of ``tests.benchmarks.halving``: a test problem with learning curves and noise through the real
ledger, sampler and halving (``tests.benchmarks.simulator``), with and without halving at the same number of trials.
A trial takes nine epochs, the same time up to a tenth. Every search is a process of its own.

- ``busy``: the trials' own virtual time by that of all workers until the last trial ends; the ideal is 100 %, and a
  makespan longer by its inverse is what the search takes. What is missing is the end, when nothing is left to start.
- ``faster``: the makespan of the fewest workers by this one.
- ``volume``: hypervolume of the fully trained settings' values without noise, in percent of the whole front's, when so
  many trials have ended, and at the virtual time at which the most workers have finished. Means over the seeds, and at
  the end the paired difference from the fewest workers (Student, 95 %).
- ``to target``: trials (median over the seeds) until 99 % of the final volume of the fewest workers is reached, and how
  many times sooner than by these that is on the clock.
- ``ask``, ``report``, ``end``: the driver's processor time in milliseconds for a suggestion, an epoch, and a trial's
  end, with a ledger in a SQLite file: of the most workers and the first seed, the other ledgers are in memory.
  ``trial`` is one whole trial, and ``wall`` its wall time: what waits for the disk (TMPDIR says which) is in it.
  ``trials/s`` is how many one driver could take by its processor time if it did nothing else. What Tune, the display
  and MLflow add is in ``tests.benchmarks.growth``; that real workers are kept busy, in ``tests.benchmarks.scale``.
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
from search.config import rungs_of
from search.study import Halving, Ledger, Unit, open_storage
from tests.benchmarks.problems import NOISE, PROBLEMS, Problem, Training, searched
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
class Wanted:
    """One search.

    Args:
        problem: Its name in ``PROBLEMS``.
        sampler: Its name in ``search.sampler``.
        halve: Whether trials are stopped.
        workers: Trials at a time.
        trials: Trials to finish, stopped ones among them.
        seed: Of the search, the curves and the noise.
        on_disk: Whether the ledger is in a file, as a sweep's is.
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
    """What one search gave.

    Args:
        makespan: Virtual seconds until the last trial's end; an epoch takes about one.
        work: Virtual seconds of all trials.
        epochs: Of all trials.
        growth: (virtual seconds, trials ended, hypervolume as a share of the whole front's) whenever it grew.
        cpu: The driver's processor time in milliseconds by what it did, the mean over all of these.
        wall: The same in wall time.
        peak: Megabytes.
    """

    makespan: float
    work: float
    epochs: int
    growth: tuple[tuple[float, int, float], ...]
    cpu: Mapping[str, float]
    wall: Mapping[str, float]
    peak: float

    def volume_after(self, trials: float) -> float:
        """The volume when so many trials had ended."""
        return max((volume for _, ended, volume in self.growth if ended <= trials), default=0.0)

    def volume_at(self, seconds: float) -> float:
        """The volume at a virtual time."""
        return max((volume for when, _, volume in self.growth if when <= seconds), default=0.0)

    def reached(self, volume: float) -> tuple[float, float]:
        """Virtual seconds and trials until there was so much; infinite if there never was."""
        return next(
            ((when, float(ended)) for when, ended, there in self.growth if there >= volume), (math.inf, math.inf)
        )


class TimedLedger(Ledger):
    """A ledger that notes what its driver's decisions cost."""

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


def run(wanted: Wanted) -> Search:
    """Runs one search in this process."""
    problem = PROBLEMS[wanted.problem]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config = searched(
        problem,
        sampler=wanted.sampler,
        seed=wanted.seed,
        trials=wanted.trials,
        concurrency=wanted.workers,
        halving=wanted.halve,
    )
    with tempfile.TemporaryDirectory(prefix="workers-") as folder:
        storage = open_storage(f"sqlite:///{folder}/study.db") if wanted.on_disk else InMemoryStorage()
        with closing(TimedLedger(storage, config, "new")) as ledger:
            ledger.adopt()
            rungs = rungs_of(EPOCHS, 1, REDUCTION_FACTOR)
            simulation = simulate(
                ledger,
                Training(problem, EPOCHS, wanted.seed, SPEED_RATIO, RUNG_NOISE),
                concurrency=wanted.workers,
                halving=Halving(problem.directions, rungs, REDUCTION_FACTOR) if wanted.halve else None,
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
    """How the hypervolume of what was trained to its end grew."""
    directions, corner = list(problem.directions.values()), list(problem.reference.values())
    front: GrowingFront[str] = GrowingFront(directions)
    growth = []
    for ended, end in enumerate(simulation.ends, start=1):
        if end.objectives is None:
            continue
        if front.add(list(problem.values(parameters[end.number]).values()), end.number):
            growth.append((end.time, ended, hypervolume(front.points, directions, corner) / problem.volume))
    return growth


def run_apart(wanted: Wanted) -> Search:
    """Runs one search in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.workers", "--one", json.dumps(asdict(wanted))]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    document = json.loads(done.stdout.splitlines()[-1])
    return Search(**{**document, "growth": tuple(map(tuple, document["growth"]))})


def rows(by_workers: Mapping[int, Sequence[Search]], trials: int) -> list[str]:
    """A table's lines: searches of one sampler, with or without halving, seed by seed, by their workers."""
    alone, most = by_workers[min(by_workers)], by_workers[max(by_workers)]
    lines = []
    for workers, searches in by_workers.items():
        pairs = list(zip(searches, alone, strict=True))
        reached = [one.reached(TARGET * base.volume_after(trials)) for one, base in pairs]
        needed = [base.reached(TARGET * base.volume_after(trials))[0] for base in alone]
        sooner = median(whole / when for (when, _), whole in zip(reached, needed, strict=True))
        cells = [
            f"{workers:>7}",
            f"{mean(one.work / (workers * one.makespan) for one in searches):>8.1%}",
            f"{mean(base.makespan / one.makespan for one, base in pairs):>7.1f}x",
            *(f"{100 * mean(one.volume_after(mark * trials) for one in searches):>8.2f}" for mark in MARKS),
            f"{_difference(pairs, trials):>22}",
            f"{100 * mean(one.volume_at(last.makespan) for one, last in zip(searches, most, strict=True)):>9.2f}",
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


def trial_cost(each: Mapping[str, float], epochs: float) -> float:
    """The driver's milliseconds for one whole trial: a suggestion, so many epochs, and its end."""
    return each["ask"] + each["report"] * epochs + each["end"]


def header(trials: int) -> str:
    """The line above ``rows``."""
    marks = "".join(f"{f'@{mark * trials:.0f}':>8}" for mark in MARKS)
    return (
        f"{'workers':>7}{'busy':>8}{'faster':>8}{marks}{'difference':>22}{'by then':>9}{'trials':>8}{'sooner':>8}"
        f"{'ask':>8}{'report':>8}{'end':>8}{'trial':>8}{'wall':>8}{'trials/s':>9}{'peak':>7}"
    )


def _difference(pairs: Sequence[tuple[Search, Search]], trials: int) -> str:
    """By how much the final volume differs from that of the fewest workers, in points."""
    differences = [100 * (one.volume_after(trials) - base.volume_after(trials)) for one, base in pairs]
    interval = student_interval(differences)
    return f"{mean(differences):+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.workers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--trials", type=int, default=2000, help="of each search (default 2000)")
    parser.add_argument("--workers", default="1,8,32,200", help="trials at a time, e.g. 1,200")
    parser.add_argument("--samplers", default="tpe,random", help="e.g. tpe,random,nsga2")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind, at least 2 (default 3)")
    parser.add_argument("--problem", default="zdt1", choices=PROBLEMS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(asdict(run(Wanted(**json.loads(options.one))))))
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
            asked = {
                workers: [
                    Wanted(
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
            found = {workers: list(map(run_apart, searches)) for workers, searches in asked.items()}
            print(f"{sampler}{', halving' if halve else ''}", *rows(found, options.trials), sep="\n", flush=True)
            results += [
                {"wanted": asdict(wanted), "found": asdict(search)}
                for workers in numbers
                for wanted, search in zip(asked[workers], found[workers], strict=True)
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
