"""Worlds for searches, with known objectives of each setting and known noise between seeds.

A measurement is value(setting, seed) = f(setting) + seed effect + interaction, normal and independent between the two
objectives, which are maximised. The unit square is the space. ZDT1 to 3 and DTLZ2 (``problems``) become accuracies
whose fronts span 2.5 points of clean and 25 points of robust accuracy, with the noise of the quickstart's recipe. In
the flat world all settings are equal. Branin-Currin has the noise of BoTorch's tutorials, independent for each
measurement. ``recorded`` fits a world to a table of measurements, such as those of ``record_worlds``.

Belakaria, Deshwal, Doppa 2019: Max-value entropy search for multi-objective Bayesian optimization. NeurIPS 32.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.hypervolume import hypervolume
from analysis.noise import Observation, fit, points_at, space_points
from tests.benchmarks.problems import PROBLEMS, REFERENCE
from trainables.metrics import CLEAN, ROBUST, Direction
from trainables.settings.space import Range

Array = npt.NDArray[np.float64]

OBJECTIVES: Final[dict[str, Direction]] = {CLEAN: "maximize", ROBUST: "maximize"}
# As fractions; measured over 8 seeds of 35 settings (the README's "Seed noise").
SEED_SDS: Final = (0.0039, 0.056)
INTERACTION_SDS: Final = (0.0036, 0.038)
_SPANS: Final = np.array([0.025, 0.25])
_BEST: Final = np.array([0.98, 0.60])
FOLDER: Final = Path(__file__).parent / "recorded"
RECORDED: Final = ("mnist5k", "radius", "fashion-mnist")
STANDING: Final = "standing"  # the column of the images that survive the attacks
_RECORDED_POINTS: Final = 1024
_AT_ONCE: Final = 64  # points per joint posterior
_SMALLEST_EFFECTS: Final = np.array([0.005, 0.02])  # the default of search.smallest_effect


@dataclass(frozen=True, kw_only=True)
class World:
    """Two objectives over the unit square.

    Args:
        function: Maps a setting, shape (2,), to its true objectives, shape (2,).
        reference: The hypervolume's reference point.
        volume: The hypervolume of the whole front; None if all settings are equal.
        seed_sds: Standard deviations of the seed effect that all settings share.
        interaction_sds: Standard deviations of the further seed effect on each setting.
    """

    function: Callable[[Array], Array]
    reference: tuple[float, float]
    volume: float | None
    seed_sds: tuple[float, float] = SEED_SDS
    interaction_sds: tuple[float, float] = INTERACTION_SDS

    def share(self, settings: Array) -> float:
        """The hypervolume of the true objectives of settings, shape (n, 2), as a share of the front's."""
        points = np.array([self.function(setting) for setting in settings]).reshape(-1, 2)
        return hypervolume(points, list(OBJECTIVES.values()), self.reference) / (self.volume or math.nan)


class Draw:
    """Measurements in a world with noise; the same setting and seed always give the same measurement."""

    def __init__(self, world: World, replay: int) -> None:
        self.world, self._replay = world, replay

    def measure(self, setting: Array, seed: int) -> Array:
        """The objectives of a setting trained with a seed, shape (2,)."""
        common = np.random.default_rng([self._replay, seed % 2**32]).normal(size=2) * self.world.seed_sds
        bits = np.ascontiguousarray(setting, dtype=np.float64).view(np.uint32).tolist()
        own = np.random.default_rng([self._replay, seed % 2**32, *bits]).normal(size=2) * self.world.interaction_sds
        return np.asarray(self.world.function(setting) + common + own)


def _branin_currin(x: Array) -> Array:
    """Belakaria et al. 2019, as scaled by BoTorch; negated, because both are minimised there."""
    u, v = 15 * x[0] - 5, 15 * x[1]
    branin = (v - 5.1 / (4 * np.pi**2) * u**2 + 5 / np.pi * u - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(u) + 10
    factor = 1 - np.exp(-1 / (2 * x[1])) if x[1] > 0 else 1.0
    numerator = 2300 * x[0] ** 3 + 1900 * x[0] ** 2 + 2092 * x[0] + 60
    currin = factor * numerator / (100 * x[0] ** 3 + 500 * x[0] ** 2 + 4 * x[0] + 20)
    return np.array([-branin, -currin])


def _as_accuracies(name: str) -> World:
    problem = PROBLEMS[name]
    return World(
        function=lambda x: _BEST - _SPANS * problem.function(x),
        reference=(float(_BEST[0] - _SPANS[0] * REFERENCE), float(_BEST[1] - _SPANS[1] * REFERENCE)),
        volume=float(problem.volume * _SPANS.prod()),
    )


WORLDS: Final[Mapping[str, World]] = {
    **{name: _as_accuracies(name) for name in ("zdt1", "zdt2", "zdt3", "dtlz2")},
    # The volume is BoTorch's, approximated with NSGA-II.
    "branin-currin": World(
        function=_branin_currin,
        reference=(-18.0, -6.0),
        volume=59.36011874867746,
        seed_sds=(0.0, 0.0),
        interaction_sds=(15.19, 0.63),
    ),
    "flat": World(function=lambda _: np.array([0.975, 0.339]), reference=(0.95, 0.2), volume=None),
}


NAMES: Final = (*WORLDS, *RECORDED)


@cache
def world_of(name: str) -> World:
    """A world by its name, one of `NAMES`."""
    return WORLDS[name] if name in WORLDS else recorded(FOLDER / f"{name}.csv")


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table of measurements; empty if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: Mapping[str, str]) -> None:
    """Appends a row to a table of measurements; the first row also writes the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)


def recorded(path: Path) -> World:
    """A world fitted to a table of measurements: its f and its noise are those of the noise model.

    The interaction includes the noise of the images. Where f hardly varies, a share counts as little as a difference
    below the smallest effect of interest. With a single parameter, a setting's second variable has no effect.

    Args:
        path: CSV with a header: one or two columns of parameters, ``seed``, ``clean_accuracy`` and ``robust_accuracy``,
            and the other columns of `record_worlds`. One row per setting and seed; two seeds or more.
    """
    rows = read(path)
    parameters = [name for name in rows[0] if name not in ("seed", STANDING, *OBJECTIVES)]
    columns = {name: [float(row[name]) for row in rows] for name in parameters}
    space = {name: Range(low=min(values), high=max(values)) for name, values in columns.items()}
    models = [
        fit(
            [
                Observation(
                    setting={name: columns[name][at] for name in parameters},
                    seed=int(row["seed"]),
                    value=float(row[objective]),
                )
                for at, row in enumerate(rows)
            ],
            space,
        )
        for objective in OBJECTIVES
    ]
    grid = space_points(space, _RECORDED_POINTS)
    parts = [grid[at : at + _AT_ONCE] for at in range(0, len(grid), _AT_ONCE)]
    values = np.stack([np.concatenate([model.posterior(part).mean for part in parts]) for model in models], axis=1)
    low = values.max(axis=0) - 1.1 * np.maximum(np.ptp(values, axis=0), _SMALLEST_EFFECTS)
    seeds, interactions = (
        tuple((getattr(model.components, part) or 0.0) / 100 for model in models) for part in ("seed", "interaction")
    )

    @cache
    def function(coordinates: tuple[float, ...]) -> tuple[float, ...]:
        [point] = points_at(space, np.array([coordinates]))
        return tuple(float(model.posterior([point]).mean[0]) for model in models)

    return World(
        function=lambda x: np.array(function(tuple(x[: len(parameters)].tolist()))),
        reference=(float(low[0]), float(low[1])),
        volume=hypervolume(values, list(OBJECTIVES.values()), low.tolist()),
        seed_sds=(seeds[0], seeds[1]),
        interaction_sds=(interactions[0], interactions[1]),
    )
