"""Two-objective halving against no halving, on test problems with noise and learning curves, on a virtual clock.

    python -m tests.benchmarks.halving [--seeds 20] [--problems zdt1,...] [--samplers tpe,...] [--json FILE]
                                       [--speed-ratio 2] [--rung-noise 0.05] [--first-rung 3]

Both sides run the same search through the real ledger, samplers and halving (``tests.benchmarks.simulator``; the
studies are in memory): same problem, sampler, seed, number of trials at a time and total number of epochs. Without
halving this budget is exactly ``--trials`` full trainings; with halving, as many more trials start as the budget
allows. ``problems`` describes what is trained. Each seed is a different search, with different speeds and noise.

The hypervolume is that of the fully trained settings' values without noise, so that neither side gains from lucky
measurements (samplers and halving see noisy ones), in percent of the whole front's. Differences and intervals are
paired over the seeds (Student, 95 %).

The verdict asks whether halving has, after half of the epochs, at least 99 % of what the search without halving has
after all of them: ``yes`` if the whole interval of the paired surplus is above 0, ``no`` if all of it is below.

The README has the results. These are earlier ones, with rungs at 1, 3, 9 of 27 epochs and Optuna's own good group in
TPE (20 seeds). With random suggestions halving reaches the target after a median of 23 to 30 % of the epochs on ZDT1 to
3 (``yes``), and not within half on DTLZ2 (never in half of the seeds; 62 % with 3 objectives). With TPE it is ahead at
a quarter of the epochs on ZDT, level or behind at the end, and ``yes`` nowhere.
The reasons, each confirmed by removing it:

- Curves that cross: a part of the front whose settings learn slowly is stopped however often it is tried. With
  ``--speed-ratio 1`` TPE reaches the target after 36, 34 and 27 % on ZDT1 to 3. Comparing later helps a little:
  ``--first-rung 3`` takes TPE's surplus at half from -10.0 to -6.1 on ZDT1 and from -9.3 to -6.4 on DTLZ2.
- Noise at the rungs as large as the settings' distances from the front, as on DTLZ2. With ``--speed-ratio 1
  --rung-noise 0.005`` random suggestions reach the target after 39 % there.
- Three objectives: under these conditions it still takes 66 %, because 95 of 161 trials are fully trained. Hardly any
  setting is beaten in all three objectives, and only such settings are stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

import numpy as np
import optuna
from optuna.storages import InMemoryStorage

from analysis.statistics import Interval, student_interval
from search.config.schema import rungs_of
from search.study import Halving, Ledger
from tests.benchmarks.problems import NOISE, PROBLEMS, Problem, Training, search_config
from tests.benchmarks.simulator import Simulation, simulate
from tests.benchmarks.sweep_vs_naive import environment

EPOCHS: Final = 27
REDUCTION_FACTOR: Final = 3.0
CONCURRENCY: Final = 4
FRACTIONS: Final = (0.1, 0.25, 0.5, 0.75, 1.0)
SAMPLERS: Final = ("tpe", "random")
TARGET: Final = 0.99


@dataclass(frozen=True)
class Conditions:
    """What all searches of a comparison share.

    Args:
        trials: Full trainings that the budget allows.
        speed_ratio: See ``problems``; 1 or more.
        rung_noise: See ``problems``; at least 0.
        first_rung: Epochs after which trials are compared for the first time.
    """

    trials: int = 100
    speed_ratio: float = 2.0
    rung_noise: float = 0.05
    first_rung: int = 3

    @property
    def budget(self) -> int:
        """Epochs that all trials of a search together may spend."""
        return self.trials * EPOCHS

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are compared."""
        return rungs_of(EPOCHS, self.first_rung, REDUCTION_FACTOR)


@dataclass(frozen=True)
class Pair:
    """One seed's two searches; epochs are shares of the budget, hypervolumes are shares of the front's.

    Args:
        without: Hypervolume at each of ``FRACTIONS`` of the epochs.
        halving: The same with halving.
        reached_without: Share of the epochs at which 99 % of the final hypervolume was reached; infinite if never.
        reached_halving: The same with halving, for the final hypervolume without it.
        ended: Trials of the search with halving, stopped or fully trained.
        completed: Those that were fully trained.
        spent_on_trials: Share of the epochs after which as many trials had ended as without halving.
        hypervolume_of_trials: The hypervolume with halving at that point.
    """

    without: tuple[float, ...]
    halving: tuple[float, ...]
    reached_without: float
    reached_halving: float
    ended: int
    completed: int
    spent_on_trials: float
    hypervolume_of_trials: float


def run_search(problem: Problem, sampler: str, seed: int, conditions: Conditions, *, halve: bool) -> Simulation:
    """One search; its trials end with their objectives without noise.

    Args:
        problem: What is search_config.
        sampler: Its name in ``search.sampler``.
        seed: Seed of the search, the speeds and the noise.
        conditions: What both searches of a pair share.
        halve: Whether halving stops trials.
    """
    trials = conditions.budget if halve else conditions.trials  # a trial takes at least one epoch
    config = search_config(problem, sampler=sampler, seed=seed, trials=trials, concurrency=CONCURRENCY, halving=halve)
    ledger = Ledger(InMemoryStorage(), config, "new")
    simulation = simulate(
        ledger,
        Training(problem, EPOCHS, seed, conditions.speed_ratio, conditions.rung_noise),
        concurrency=CONCURRENCY,
        halving=Halving(problem.directions, conditions.rungs, REDUCTION_FACTOR) if halve else None,
        epochs=conditions.budget,
    )
    ends = [
        end if end.objectives is None else replace(end, objectives=problem.values(ledger.record(end.number).parameters))
        for end in simulation.ends
    ]
    return replace(simulation, ends=tuple(ends))


def run_pair(problem: Problem, sampler: str, seed: int, conditions: Conditions) -> Pair:
    """Both searches of a seed, with the arguments of ``run_search``."""
    trials, budget = conditions.trials, conditions.budget
    unhalved, halved = (run_search(problem, sampler, seed, conditions, halve=halve) for halve in (False, True))
    whole, early = (
        [
            (epochs / budget, volume / problem.volume)
            for epochs, volume in simulation.hypervolume_trace(problem.directions, problem.reference)
        ]
        for simulation in (unhalved, halved)
    )
    target = TARGET * _at(whole, 1.0)
    share_of_trials = halved.ends[trials - 1].epochs / budget if len(halved.ends) >= trials else 1.0
    return Pair(
        without=tuple(_at(whole, fraction) for fraction in FRACTIONS),
        halving=tuple(_at(early, fraction) for fraction in FRACTIONS),
        reached_without=_reached(whole, target),
        reached_halving=_reached(early, target),
        ended=len(halved.ends),
        completed=len(early),
        spent_on_trials=share_of_trials,
        hypervolume_of_trials=_at(early, share_of_trials),
    )


def _at(trace: Sequence[tuple[float, float]], share: float) -> float:
    """The hypervolume when this share of the epochs was spent."""
    return max((volume for spent, volume in trace if spent <= share), default=0.0)


def _reached(trace: Sequence[tuple[float, float]], volume: float) -> float:
    """The share of the epochs spent when the hypervolume first reached this value."""
    return min((spent for spent, reached in trace if reached >= volume), default=math.inf)


def surplus(pairs: Sequence[Pair]) -> Interval:
    """By how much halving's hypervolume at half of the epochs exceeds 99 % of the final one without it."""
    half, whole = FRACTIONS.index(0.5), FRACTIONS.index(1.0)
    return student_interval([pair.halving[half] - TARGET * pair.without[whole] for pair in pairs])


def verdict(interval: Interval) -> str:
    """Whether halving reaches the target in half of the epochs."""
    return "yes" if interval.low >= 0 else "no" if interval.high < 0 else "undecided"


def table(pairs: Sequence[Pair]) -> str:
    """Hypervolume over epochs spent, in percent; means over the seeds, and the paired difference."""
    without, halving = (np.array([getattr(pair, side) for pair in pairs]) for side in ("without", "halving"))
    lines = ["  epochs spent     " + "".join(f"{fraction:>20.0%}" for fraction in FRACTIONS)]
    for title, values in (("without", without), ("halving", halving)):
        lines.append(f"  {title:<17}" + "".join(f"{value:>20.1%}" for value in values.mean(axis=0)))
    intervals = [student_interval(column) for column in (halving - without).T]
    lines.append("  difference       " + "".join(f"{_cell(interval):>20}" for interval in intervals))
    return "\n".join(lines)


def summary(pairs: Sequence[Pair]) -> str:
    """The main figures, in sentences."""
    interval = surplus(pairs)
    within = sum(pair.reached_halving <= 0.5 for pair in pairs)
    never = sum(math.isinf(pair.reached_halving) for pair in pairs)
    return (
        "  99 % of the final hypervolume without halving is reached after a median "
        f"{_share(p.reached_halving for p in pairs)} of the epochs with halving, "
        f"{_share(p.reached_without for p in pairs)} without; with halving within half in "
        f"{within} of {len(pairs)} seeds, never in {never}.\n"
        f"  At half of the epochs halving has {mean(p.halving[2] for p in pairs):.1%}; surplus over the target "
        f"{_cell(interval)}: {verdict(interval)}.\n"
        f"  Halving ended {mean(p.ended for p in pairs):.0f} trials, {mean(p.completed for p in pairs):.0f} of them "
        "fully trained. For as many trials as without halving, it spends "
        f"{mean(p.spent_on_trials for p in pairs):.0%} of the epochs "
        f"and has {mean(p.hypervolume_of_trials for p in pairs):.1%}."
    )


def _cell(interval: Interval) -> str:
    middle = (interval.low + interval.high) / 2
    return f"{100 * middle:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def _share(shares: Iterable[float]) -> str:
    middle = median(shares)
    return "more than 100%" if math.isinf(middle) else f"{middle:.0%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every problem with every sampler, and prints."""
    defaults = Conditions()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.halving")
    parser.add_argument("--seeds", type=int, default=20, help="searches per side, at least 2 (default 20)")
    parser.add_argument("--first-seed", type=int, default=0, help="set it to try changes on other seeds")
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="default: all")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="default: all of these")
    parser.add_argument("--trials", type=int, default=defaults.trials, help="full trainings that the budget allows")
    parser.add_argument(
        "--speed-ratio", type=float, default=defaults.speed_ratio, help="between the quickest and the slowest curve"
    )
    parser.add_argument(
        "--rung-noise", type=float, default=defaults.rung_noise, help="standard deviation; fronts span 1"
    )
    parser.add_argument(
        "--first-rung", type=int, default=defaults.first_rung, help="epochs before the first comparison"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")
    options = parser.parse_args(arguments)
    names, samplers = options.problems.split(","), options.samplers.split(",")
    unknown = sorted(set(names) - set(PROBLEMS))
    if unknown:
        parser.error(f"--problems must be among {', '.join(PROBLEMS)}, got {', '.join(unknown)}; correct the name")
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {options.seeds}; an interval needs two")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    conditions = Conditions(options.trials, options.speed_ratio, options.rung_noise, options.first_rung)
    where = environment()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    results: dict[str, Any] = {}
    for name in names:
        for sampler in samplers:
            began = time.process_time()
            pairs = [run_pair(PROBLEMS[name], sampler, seed, conditions) for seed in seeds]
            print(
                f"{name}, {sampler} ({time.process_time() - began:.0f} s)\n{table(pairs)}\n{summary(pairs)}", flush=True
            )
            results[f"{name}, {sampler}"] = [asdict(pair) for pair in pairs]
    print(
        f"n = {options.seeds} seeds, paired; {conditions.trials} trials of {EPOCHS} epochs "
        f"({conditions.budget} epochs in all), {CONCURRENCY} at a time; rungs {conditions.rungs}, reduction factor "
        f"{REDUCTION_FACTOR:g}; speed ratio {conditions.speed_ratio:g}, noise {conditions.rung_noise:g} at the rungs "
        f"and {NOISE:g} at the end. Times are CPU seconds."
    )
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    if options.json is not None:
        document = {
            "environment": where,
            "conditions": asdict(conditions),
            "seeds": list(seeds),
            "fractions": FRACTIONS,
            "results": results,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
