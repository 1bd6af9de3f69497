"""How often the question "does it matter?" is answered, and how often wrongly, for planted effects.

    uv run python -m tests.benchmarks.verdict_rates [--units 100,200,400] [--effects 0,0.02,0.04] [--runs 400]
        [--csv FILE]

The noise is that of the quickstart's recipe. s changes robust accuracy linearly by the effect; m changes nothing. Four
fifths of the units search, with eight seeds per setting, so the number of settings is a tenth of all units. One fifth
confirms the settings with the highest and the lowest posterior mean, with new seeds. The smallest effect of interest is
two points. ``true`` is wrong without an effect, and ``false`` is wrong for effects of two points or more. Intervals are
Wilson's, at 95 %. Runs that FILE already has are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Final

import numpy as np

from analysis.matters import extremes, parameters_matter
from analysis.noise import fit
from analysis.statistics import wilson_interval
from tests.analysis.planted import SPACE, Sweep, scattered, trend
from tests.benchmarks.sweep_vs_naive import environment
from tests.benchmarks.worlds import append, read
from trainables.metrics import ROBUST

MARGIN: Final = 0.02
_SEEDS: Final = 8
_FIRST_NEW: Final = 1000  # seed
_LEAST, _MOST = 20, 640  # units, for two settings and for all settings of the planted sweeps


def matters(effect: float, units: int, run: int) -> bool | None:
    """The verdict of one planted sweep."""
    generator = np.random.default_rng([run, units])
    sweep = Sweep(truth=trend(effect))
    model = fit(sweep.units(scattered(units // 10, generator), range(_SEEDS), generator), SPACE)
    new = range(_FIRST_NEW, _FIRST_NEW + units // 10)
    confirmation = sweep.units(extremes(model), new, generator)
    return parameters_matter({ROBUST: model}, {ROBUST: MARGIN}, {ROBUST: confirmation})[ROBUST].matters


def line(effect: float, units: int, answers: list[str]) -> str:
    """A row of the table: shares in percent, with their intervals."""
    cells = []
    for answer in ("True", "False", "None"):
        count = answers.count(answer)
        low, high = wilson_interval(count, len(answers))
        cells.append(f"{100 * count / len(answers):.0f} ({100 * low:.0f} to {100 * high:.0f})")
    return f"{100 * effect:>6.0f}{units:>7}{len(answers):>6}" + "".join(f"{cell:>18}" for cell in cells)


def main() -> None:
    """Runs the sweeps that FILE lacks, and prints the table."""
    parser = argparse.ArgumentParser(description="How often the parameters are said to matter, for planted effects.")
    parser.add_argument("--units", default="100,200,400")
    parser.add_argument("--effects", default="0,0.02,0.04")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--csv", type=Path, help="save the answers to this file, and continue from it")
    arguments = parser.parse_args()
    sizes = [int(units) for units in arguments.units.split(",")]
    if not all(_LEAST <= units <= _MOST for units in sizes):
        parser.error(f"--units must be from {_LEAST} to {_MOST}, got {arguments.units}; choose others")
    effects = [float(effect) for effect in arguments.effects.split(",")]
    file: Path | None = arguments.csv
    rows = read(file) if file else []
    known = {(float(row["effect"]), int(row["units"]), int(row["run"])): row["matters"] for row in rows}
    print(environment())
    for run, effect, units in itertools.product(range(arguments.runs), effects, sizes):
        if (effect, units, run) not in known:
            known[effect, units, run] = str(matters(effect, units, run))
            if file:
                cell = {"effect": str(effect), "units": str(units), "run": str(run)}
                append(file, {**cell, "matters": known[effect, units, run]})
    print("effect  units     n          true, %          false, %      undecided, %")
    for effect, units in itertools.product(effects, sizes):
        print(line(effect, units, [a for (e, u, _), a in known.items() if (e, u) == (effect, units)]))


if __name__ == "__main__":
    main()
