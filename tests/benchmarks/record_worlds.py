"""Trains the grids of settings and seeds for the recorded worlds (``worlds``), with the quickstart's recipe.

    OMP_NUM_THREADS=1 uv run python -m tests.benchmarks.record_worlds [--part mnist5k,radius,fashion-mnist]
        [--units N] [--folder DIR]

Writes one row per network to ``recorded/PART.csv``: the parameters, the seed, the two accuracies, and which of the
attacked images survive (``standing``: bits as hexadecimal digits, the first image first). Networks that the table
already has are not trained again. Seeds are the outer loop, so that an unfinished table has complete seeds. Each
network trains with one thread.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from scipy.stats import f as f_distribution

from analysis.statistics import mean_squares
from search.config import SweepConfig, load
from tests.benchmarks.growth import REPOSITORY
from tests.benchmarks.sweep_vs_naive import environment
from tests.benchmarks.worlds import FOLDER, STANDING, append, read
from trainables.candidate import candidate_of
from trainables.data.splits import load_splits
from trainables.metrics import CLEAN, ROBUST
from trainables.settings.space import Value
from trainables.trial import CandidateResult, run_candidate


@dataclass(frozen=True, kw_only=True)
class Part:
    """A grid: points per parameter, the number of seeds, and changes to the quickstart's configuration."""

    grid: Mapping[str, int]
    seeds: int
    overrides: Sequence[str] = ()

    def config(self) -> SweepConfig:
        return load(REPOSITORY / "configs" / "quickstart.yaml", [*self.overrides, "audit=null"])

    def units(self) -> Iterable[tuple[dict[str, Value], int]]:
        """Settings and seeds."""
        domains = self.config().domains
        axes = [domains[name].grid(points) for name, points in self.grid.items()]
        for seed, values in itertools.product(range(self.seeds), itertools.product(*axes)):
            yield dict(zip(self.grid, values, strict=True)), seed


PARTS: Final[Mapping[str, Part]] = {
    "mnist5k": Part(grid={"s": 7, "m": 5}, seeds=8),
    "radius": Part(
        grid={"defence.epsilon": 7},
        seeds=8,
        overrides=(
            "loss={name: cross-entropy}",
            "defence={name: adversarial-training, norm: l2, steps: 5, warm_up: 0.5}",
            "space={defence.epsilon: {low: 0.0, high: 2.0}}",
        ),
    ),
    "fashion-mnist": Part(
        grid={"s": 4, "m": 3},
        seeds=6,
        overrides=(
            "data={name: fashion-mnist, train_size: 3500, validation_size: 1000}",
            "train.learning_rate=0.003",
            "robustness.epsilon=0.5",
        ),
    ),
}


def record(part: Part, path: Path, units: int | None = None) -> int:
    """Trains up to ``units`` networks that the table lacks (default: all) and appends them. Returns their number."""
    problem = part.config().problem
    known = {tuple(row[name] for name in (*part.grid, "seed")) for row in read(path)}
    missing = [(p, s) for p, s in part.units() if (*(f"{v:.6g}" for v in p.values()), str(s)) not in known][:units]
    splits = load_splits(problem.data) if missing else {}
    for parameters, seed in missing:
        *_, result = run_candidate(problem, candidate_of(problem, parameters), replicates=[seed], splits=splits)
        assert isinstance(result, CandidateResult)
        images = result.outcomes.by_name()
        row = {
            **{name: f"{value:.6g}" for name, value in parameters.items()},
            "seed": str(seed),
            **{name: f"{images[name].mean():.6g}" for name in (CLEAN, ROBUST)},
            STANDING: np.packbits(images[ROBUST][0]).tobytes().hex(),
        }
        append(path, row)
    return len(missing)


def analysis(path: Path, seeds: int) -> list[str]:
    """A two-way analysis of variance over settings and seeds, in points of each accuracy; complete seeds only."""
    rows = read(path)
    lines = []
    for objective in (CLEAN, ROBUST):
        by_setting: dict[tuple[str, ...], list[float]] = {}
        for row in sorted(rows, key=lambda row: int(row["seed"])):
            setting = tuple(value for name, value in row.items() if name not in ("seed", STANDING, CLEAN, ROBUST))
            by_setting.setdefault(setting, []).append(100 * float(row[objective]))
        table = np.array([values for values in by_setting.values() if len(values) == seeds])
        if len(table) < 2:
            continue
        squares, (settings, _), means = mean_squares(table), table.shape, table.mean(axis=1)
        between_settings = math.sqrt(max(squares.units - squares.rest, 0.0) / seeds)
        between_seeds = math.sqrt(max(squares.images - squares.rest, 0.0) / settings)
        f = squares.units / squares.rest
        p = f_distribution.sf(f, settings - 1, (settings - 1) * (seeds - 1))
        lines.append(
            f"{objective}: mean {means.mean():.1f}, settings {means.min():.1f} to {means.max():.1f}; sds "
            f"{between_settings:.2f} between settings (F = {f:.2f}, p = {p:.2g}), "
            f"{between_seeds:.2f} between seeds, {math.sqrt(squares.rest):.2f} beyond both; n = {settings} x {seeds}; "
            f"seed 0 alone: {table[:, 0].min():.1f} to {table[:, 0].max():.1f}"
        )
    return lines


def main() -> None:
    """Completes the tables, one part after another, and analyses each."""
    parser = argparse.ArgumentParser(description="Trains the grids behind the recorded worlds.")
    parser.add_argument("--part", default=",".join(PARTS))
    parser.add_argument("--units", type=int, help="train at most this many networks per part")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(environment())
    for name in arguments.part.split(","):
        count = record(PARTS[name], arguments.folder / f"{name}.csv", arguments.units)
        print(f"{name}: {count} networks trained")
        for line in analysis(arguments.folder / f"{name}.csv", PARTS[name].seeds):
            print(line)


if __name__ == "__main__":
    main()
