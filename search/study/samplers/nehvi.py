"""Noisy expected hypervolume improvement, or another seed of a known setting if that is expected to gain more.

It learns from every complete unit, through the noise model of `analysis.noise`. The new setting is the one with the
largest noisy expected improvement among a few hundred points. It is then compared with further seeds of the settings
that may be on the front, by a one-step look-ahead: the expected growth of the hypervolume of the front of posterior
means, divided by the work of the unit. Work is counted in images that pass through the model, since measured seconds
would make suggestions irreproducible.
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
_POINTS: Final = 128  # of the space, compared in every suggestion
_NEIGHBOURS: Final = 64  # of the known front, and then of the best points
_PARENTS: Final = 4  # best points whose neighbours are compared
_FAR, _NEAR = 0.1, 0.02  # standard distances of neighbours from the front and from the best points, in ranges
_DRAWS: Final = 128
_OUTCOMES: Final = 16  # simulated outcomes of a unit, times two for each metric
_PLAUSIBLE: Final = 0.02  # settings with a lower probability of being on the front get no further seed
_MOST_EXTENDED: Final = 32  # settings whose further seeds are compared
_FIRST_EXTENDED: Final = 2  # settings that get a second seed before new settings are chosen
_MARGIN: Final = 0.1  # of the range of all known settings, from their worst values to the reference point


def choose(config: SweepConfig, number: int, observed: Observed) -> Mapping[str, Value] | Extension | None:
    """A new setting, another seed of a known one, or None for the next point of the initial Sobol' sequence.

    Args:
        config: The sweep's configuration.
        number: The trial number that a new setting would get; all random numbers derive from it and ``search.seed``.
        observed: The measurements so far.
    """
    initial = min(2 * (len(observed.space) + 1), settings_in(observed.space) or math.inf)
    if not observed.complete or len(observed.settings) < initial:
        return None
    return _Choice(config, number, observed).make()


def race(config: SweepConfig, number: int, observed: Observed) -> Extension | None:
    """The next seed, up to ``train.replicates``, of a setting that may be on the front; None if all have their seeds.

    Args as for ``choose``. Settings with fewer seeds come first, then the likelier ones.
    """
    if not observed.complete:
        return None
    extensions = [observed.extension(name) for name in _Choice(config, number, observed).plausible()]
    due = [extension for extension in extensions if extension.seed < config.train.replicates]
    return min(due, key=lambda extension: extension.seed, default=None)


class _Choice:
    """One choice between new settings and further seeds.

    The measures of a setting are its objectives, with the sign for which larger is better, and the amount by which it
    misses each constraint; at 0 or below it is met.
    """

    def __init__(self, config: SweepConfig, number: int, observed: Observed) -> None:
        self._observed, self._number = observed, number
        self._generator = np.random.default_rng((config.search.seed, number))
        self._defence = config.problem.defence
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
        self._posteriors = self._measures_of([])
        self._means = np.stack([each.mean for each in self._posteriors], axis=1)
        self._reference = self._reference_point()

    def make(self) -> Mapping[str, Value] | Extension | None:
        numbers = self.plausible()[:_MOST_EXTENDED]
        single = [number for number, (index, _) in self._observed.next_seeds.items() if index == 1]
        # While no setting has two seeds, the noise is unknown, and so is the value of another seed.
        if len(self._observed.next_seeds) - len(single) < _FIRST_EXTENDED and not set(numbers).isdisjoint(single):
            return self._observed.extension(next(number for number in numbers if number in single))
        new = self._new_setting()
        units: list[tuple[Setting, int]] = [
            (self._observed.complete[number], self._observed.next_seeds[number][1]) for number in numbers
        ]
        units += [] if new is None else [(new, self._observed.first_seed)]
        if not units:
            return None
        works = [self._observed.work(setting, self._defence) for setting, _ in units]
        rates = self._gains(units, new) / works
        # Often no single unit is expected to change the front: then a new setting, or else the least work.
        best = max(range(len(units)), key=lambda at: (rates[at], at == len(numbers), -works[at]))
        return new if best == len(numbers) else self._observed.extension(numbers[best])

    def _measures_of(self, further: Sequence[Setting]) -> list[GaussianMixture]:
        """The joint posterior of each measure at the known settings and further ones, in that order.

        Objectives are relative to the mean of the known settings. An effect that shifts all settings, such as that
        of shared seeds, does not change their order, but it would move all of them across the reference point.
        """
        posteriors = {name: model.posterior([*self._known, *further]) for name, model in self._models.items()}
        measures = [
            replace(posteriors[name], means=sign * posteriors[name].means + shift)
            for name, sign, shift in self._measures
        ]
        k = len(self._directions)
        return [*(_relative(each, len(self._known)) for each in measures[:k]), *measures[k:]]

    def _on_front(self, values: Array) -> npt.NDArray[np.intp]:
        """The indices of the rows (n, measures) that meet the constraints and that no other such row dominates."""
        k = len(self._directions)
        inside = np.flatnonzero((values[:, k:] <= 0).all(axis=1))
        return np.asarray(inside[is_nondominated(values[inside, :k], self._directions)])

    def _reference_point(self) -> Array:
        values = self._means[:, : len(self._directions)]
        # Not from the worst of the front alone: that would make points beyond its ends worthless before they are found.
        return np.asarray(values.min(axis=0) - _MARGIN * np.ptp(values, axis=0))

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
        posteriors, k = self._measures_of(candidates), len(self._directions)
        return noisy_improvement(
            posteriors[:k], posteriors[k:], len(self._known), self._reference, _DRAWS, self._generator
        )

    def plausible(self) -> list[str]:
        """The numbers of the complete settings that may be on the front, the likeliest first."""
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
            means = np.vstack([means, [each.mean[-1] for each in self._measures_of([new])]])
        moved = {
            name: model.foresights(settings, units, self._observed.running) for name, model in self._models.items()
        }
        shifts = np.stack([sign * moved[name] for name, sign, _ in self._measures], axis=2)
        k = len(self._directions)
        shifts[:, :, :k] -= shifts[:, : len(self._known), :k].mean(axis=1, keepdims=True)
        outcomes = self._outcomes()[:, [self._metrics.index(name) for name, _, _ in self._measures]]
        now, gains = self._volume(self._means), np.zeros(len(units))
        for at, (setting, _) in enumerate(units):
            rows = slice(len(settings) if setting is new else len(self._known))
            after = [self._volume(means[rows] + shifts[at, rows] * outcome) for outcome in outcomes]
            gains[at] = np.mean(after) - now
        return gains

    def _outcomes(self) -> Array:
        """Standard normal outcomes of a unit, mirrored in every metric, so that linear terms cancel exactly."""
        half = np.abs(self._generator.standard_normal((_OUTCOMES, len(self._metrics))))
        return np.concatenate([half * mirror for mirror in itertools.product((-1.0, 1.0), repeat=len(self._metrics))])

    def _volume(self, values: Array) -> float:
        k = len(self._directions)
        return hypervolume(values[self._on_front(values), :k], self._directions, self._reference.tolist())


def _relative(posterior: GaussianMixture, known: int) -> GaussianMixture:
    """The posterior of values relative to the mean of the first ``known``, shifted back by that mean's expectation."""
    level, shared = posterior.means[:, :known].mean(axis=1), posterior.covariances[:, :known].mean(axis=1)
    covariances = posterior.covariances - shared[:, None] - shared[:, :, None]
    covariances += shared[:, :known].mean(axis=1)[:, None, None]
    means = posterior.means - level[:, None] + posterior.weights @ level
    return GaussianMixture(posterior.weights, means, covariances)


SAMPLER = Sampler(
    make=sobol,
    source="Daulton, Balandat, Bakshy 2021: Parallel Bayesian optimization of multiple noisy objectives with expected "
    "hypervolume improvement. NeurIPS 34",
    most_modelled=MOST_MODELLED,
    choose=choose,
)
