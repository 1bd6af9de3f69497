"""Noisy expected hypervolume improvement, and another seed of a known setting where that teaches more.

Learns from every complete unit, by the noise model of `analysis.noise`. New settings are the best of a few hundred
points by the hypervolume that they are expected to add to what the known settings may be worth. The best one and the
further seeds of settings that may be on the front are then compared by one look-ahead: how much the hypervolume of the
front of posterior means is expected to grow by the unit, divided by its work.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.hypervolume import hypervolume
from analysis.improvement import noisy_improvement
from analysis.mixture import GaussianMixture
from analysis.noise import Parameters, Setting, coordinates_of, points_at, setting_key, space_points
from analysis.pareto import is_nondominated
from search.config import SweepConfig
from search.config.rules import settings_in
from search.study.observed import Observed
from search.study.samplers import Sampler
from search.study.samplers.qmc import sobol
from search.study.trials import Extension
from trainables.metrics import Direction
from trainables.settings.space import Value

Array = npt.NDArray[np.float64]

MOST_MODELLED: Final = 128  # settings; the exact model's time grows with their third power
_POINTS: Final = 128  # of the space, looked at in every ask
_NEIGHBOURS: Final = 64  # of the known front, and then of the best points
_PARENTS: Final = 4  # the best points that have neighbours
_FAR, _NEAR = 0.1, 0.02  # how far neighbours lie from the front and from the best points, in ranges
_DRAWS: Final = 128
_LOOKS: Final = 16  # outcomes of a unit, times two for each objective
_PLAUSIBLE: Final = 0.02  # the probability of being on the front from which on a setting may get another seed
_MOST_EXTENDED: Final = 32  # settings whose further seeds are compared
_FIRST_EXTENDED: Final = 2  # settings that get a second seed before new settings are chosen
_MARGIN: Final = 0.1  # of the front's range, from its worst values to the reference point


def choose(config: SweepConfig, number: int, observed: Observed) -> Mapping[str, Value] | Extension | None:
    """A new setting, another seed of a known one, or None for a point of the Sobol' sequence that a search begins with.

    Args:
        config: The sweep.
        number: Of the trial that a new setting would be; all random numbers derive from it and ``search.seed``.
        observed: What is known.
    """
    begin = min(2 * (len(observed.space) + 1), settings_in(observed.space) or math.inf)
    if not observed.complete or len(observed.settings) < begin:
        return None
    return _Choice(config, number, observed).made()


def race(config: SweepConfig, number: int, observed: Observed) -> Extension | None:
    """The next seed, up to ``train.replicates``, of a setting that may still be on the front; None if all have theirs.

    Args as for ``choose``. Settings with fewer seeds come first, then the likelier ones.
    """
    if not observed.complete:
        return None
    extensions = [observed.extension(name) for name in _Choice(config, number, observed).plausible()]
    due = [extension for extension in extensions if extension.seed < config.train.replicates]
    return min(due, key=lambda extension: extension.seed, default=None)


class _Choice:
    """One choice between new settings and further seeds.

    What is measured of a setting are its objectives, turned so that larger is better, and by how much it misses each
    constraint: up to 0 is met.
    """

    def __init__(self, config: SweepConfig, number: int, observed: Observed) -> None:
        self._observed, self._number = observed, number
        self._generator = np.random.default_rng((config.search.seed, number))
        self._directions: list[Direction] = ["maximize"] * len(config.objectives)
        self._measures = [
            *((name, 1.0 if direction == "maximize" else -1.0, 0.0) for name, direction in config.objectives.items()),
            *(
                (bound.name, *((-1.0, bound.bound) if bound.relation == ">=" else (1.0, -bound.bound)))
                for bound in config.bounds
            ),
        ]
        self._metrics = list(dict.fromkeys(name for name, _, _ in self._measures))
        self._models = {name: observed.model(name) for name in self._metrics}
        self._known = list({setting_key(each): each for each in observed.settings}.values())
        self._posteriors = self._measured(self._known)
        self._means = np.stack([each.mean for each in self._posteriors], axis=1)
        self._reference = self._reference_point()

    def made(self) -> Mapping[str, Value] | Extension | None:
        numbers, first = (
            self.plausible()[:_MOST_EXTENDED],
            [n for n, (index, _) in self._observed.next_seeds.items() if index == 1],
        )
        # One seed says nothing of the noise, and so not what another one is worth.
        if len(self._observed.next_seeds) - len(first) < _FIRST_EXTENDED and not set(numbers).isdisjoint(first):
            return self._observed.extension(next(number for number in numbers if number in first))
        new = self._new_setting()
        units: list[tuple[Setting, int]] = [
            (self._observed.complete[number], self._observed.next_seeds[number][1]) for number in numbers
        ]
        units += [] if new is None else [(new, self._observed.first_seed)]
        if not units:
            return None
        worth = self._gains(units, new) / [_work(setting) for setting, _ in units]
        best = len(units) - 1 - int(np.argmax(worth[::-1]))  # of equal ones the new setting
        return new if best == len(numbers) else self._observed.extension(numbers[best])

    def _measured(self, settings: Sequence[Setting]) -> list[GaussianMixture]:
        found = {name: model.posterior(settings) for name, model in self._models.items()}
        return [replace(found[name], means=sign * found[name].means + shift) for name, sign, shift in self._measures]

    def _on_front(self, values: Array) -> npt.NDArray[np.intp]:
        """Which rows (n, measures) meet the constraints, and are not dominated by others that do."""
        k = len(self._directions)
        inside = np.flatnonzero((values[:, k:] <= 0).all(axis=1))
        return np.asarray(inside[is_nondominated(values[inside, :k], self._directions)])

    def _reference_point(self) -> Array:
        values = self._means[:, : len(self._directions)]
        front = values[self._on_front(self._means)] if len(self._on_front(self._means)) else values
        span = np.where(np.ptp(front, axis=0) > 0, np.ptp(front, axis=0), np.ptp(values, axis=0))
        return np.asarray(front.min(axis=0) - _MARGIN * span)

    def _new_setting(self) -> Parameters | None:
        """The point with the largest expected improvement; None if all have been tried."""
        space, gains = self._observed.space, dict[Hashable, tuple[float, Parameters]]()
        front = [self._known[at] for at in self._on_front(self._means)]
        points = [*space_points(space, _POINTS, self._number), *self._neighbours(front, _FAR)]
        for _ in range(2):
            fresh = {setting_key(point): point for point in points}
            untried = [point for key, point in fresh.items() if key not in self._observed.tried and key not in gains]
            if untried:
                added = self._improvements(untried).tolist()
                gains |= {setting_key(point): (gain, point) for point, gain in zip(untried, added, strict=True)}
            ranked = [point for _, point in sorted(gains.values(), key=lambda pair: -pair[0])]
            points = self._neighbours(ranked[:_PARENTS], _NEAR)
        return ranked[0] if ranked else None

    def _neighbours(self, centres: Sequence[Parameters], distance: float) -> list[Parameters]:
        if not centres:
            return []
        around = coordinates_of(self._observed.space, centres)[np.arange(_NEIGHBOURS) % len(centres)]
        shifts = self._generator.normal(0, distance, around.shape)
        return points_at(self._observed.space, np.clip(around + shifts, 0, 1))

    def _improvements(self, candidates: Sequence[Parameters]) -> Array:
        posteriors, k = self._measured([*self._known, *candidates]), len(self._directions)
        return noisy_improvement(
            posteriors[:k], posteriors[k:], len(self._known), self._reference, _DRAWS, self._generator
        )

    def plausible(self) -> list[str]:
        """The complete settings that may be on the front, by number, the likeliest first."""
        draws = np.stack([each.draws(_DRAWS, self._generator) for each in self._posteriors], axis=2)
        count = np.zeros(len(self._known))
        for values in draws:
            count[self._on_front(values)] += 1
        keys = [setting_key(each) for each in self._known]
        counts = {number: count[keys.index(setting_key(each))] for number, each in self._observed.complete.items()}
        likeliest = sorted(counts, key=lambda number: -counts[number])
        return [number for number in likeliest if counts[number] >= _PLAUSIBLE * _DRAWS]

    def _gains(self, units: Sequence[tuple[Setting, int]], new: Parameters | None) -> Array:
        """How much each unit is expected to add to the hypervolume of the front of posterior means. Shape (units,)."""
        settings, means = list(self._known), self._means
        if new is not None:
            settings.append(new)
            means = np.vstack([means, [each.mean[0] for each in self._measured([new])]])
        moved = {
            name: model.foresights(settings, units, self._observed.running) for name, model in self._models.items()
        }
        shifts = np.stack([sign * moved[name] for name, sign, _ in self._measures], axis=2)
        outcomes = self._outcomes()[:, [self._metrics.index(name) for name, _, _ in self._measures]]
        now, gains = self._volume(self._means), np.zeros(len(units))
        for at, (setting, _) in enumerate(units):
            rows = slice(len(settings) if setting is new else len(self._known))
            after = [self._volume(means[rows] + shifts[at, rows] * outcome) for outcome in outcomes]
            gains[at] = np.mean(after) - now
        return gains

    def _outcomes(self) -> Array:
        """Standard normal results of a unit, mirrored in every metric, so that what is linear in each adds nothing."""
        half = np.abs(self._generator.standard_normal((_LOOKS, len(self._metrics))))
        return np.concatenate([half * mirror for mirror in itertools.product((-1.0, 1.0), repeat=len(self._metrics))])

    def _volume(self, values: Array) -> float:
        k = len(self._directions)
        return hypervolume(values[self._on_front(values), :k], self._directions, self._reference.tolist())


def _work(setting: Setting) -> float:
    """What a unit costs beside another: passes of each training image. Epochs and images are the same for all."""
    return 1.0 if isinstance(setting, str) else 1.0 + float(setting.get("defence.steps", 0.0))


SAMPLER = Sampler(
    make=sobol,
    source="Daulton, Balandat, Bakshy 2021: Parallel Bayesian optimization of multiple noisy objectives with expected "
    "hypervolume improvement. NeurIPS 34",
    most_modelled=MOST_MODELLED,
    choose=choose,
)
