"""The noise model of a sweep: it separates a setting's own value from the effects of seeds and images.

For each objective, value(setting, seed) = f(setting) + seed effect + interaction + image noise. A good seed is good for
every setting, so seed effects are estimated jointly, and settings that share seeds are compared in pairs. Image noise
has a part that all units share (difficult images), which cancels in differences and does not shrink with more seeds,
and a part per unit. f is a smooth function over the space (a Gaussian process); each baseline has a value of its own.

Searle, Casella, McCulloch 1992: Variance Components. Wiley.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.gaussian_process import Array, Encoder, GaussianProcess, coordinate, values_at
from analysis.mixture import GaussianMixture
from analysis.records import value_text
from analysis.statistics import (
    Difference,
    Interval,
    mean_squares,
    paired_difference,
    seeds_and_images_interval,
    student_interval,
)
from trainables.settings.space import Domain, Range, Value

Parameters = Mapping[str, Value]
Setting = Parameters | str  # a point of the space, or the name of a baseline

THIS_NETWORK_ONLY: Final = "this network only"
_POINT: Final = 0.01  # one percentage point, as a fraction
_ABOVE: Final = 0.001  # where a range without its low end begins, as a share of the range


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One objective of one unit: a setting trained with one seed.

    Args:
        setting: A value for every parameter of the space, or the name of a baseline.
        seed: Any number; units with the same seed share their seed effect.
        value: The objective, e.g. a fraction in [0, 1].
        outcomes: The outcome of each image, where ``value`` is their mean: bool (images,). All units of a fit are
            measured on the same images.
    """

    setting: Setting
    seed: int
    value: float
    outcomes: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Components:
    """Standard deviations of one unit's value, in points: hundredths of the objective's unit. None means unknown.

    The parts of the seeds are posterior medians, those of the images mean-square estimates.

    Args:
        seed: The effect of the seed that all settings share.
        interaction: The further effect of the seed on each setting. If no two settings share a seed, the two effects
            cannot be separated: ``seed`` is None, and this is their sum. Without outcomes it includes the image noise.
        images_shared: The effect of the choice of images that all units share.
        images_per_unit: The further effect of the choice of images on each unit.
    """

    seed: float | None
    interaction: float | None
    images_shared: float | None
    images_per_unit: float | None

    @property
    def sentence(self) -> str:
        """The components in one sentence."""
        seeds = "between seeds per setting" if self.seed is not None else "between seeds, shared and per setting"
        named = {
            "between seeds": self.seed,
            seeds: self.interaction,
            "from images, shared by all units": self.images_shared,
            "from images, per unit": self.images_per_unit,
        }
        known = ", ".join(f"{sd:.2g} {name}" for name, sd in named.items() if sd is not None)
        note = "" if self.interaction is not None else f" ({THIS_NETWORK_ONLY}: one seed)"
        return f"Standard deviations in points: {known or 'unknown'}{note}."


@dataclass(frozen=True)
class Comparison:
    """A difference of two settings, in the objective's unit."""

    mean: float
    interval: Interval  # at 95 %
    above: float  # the probability that the difference is above zero


class NoiseModel:
    """The noise model of one objective. Made by ``fit``.

    Attributes:
        components: The parts of the noise.
        this_network_only: Whether there is only one seed, so that the results say nothing about other seeds.
        settings: The points of the space that were measured, in the order of the first unit.
        baselines: The names of the baselines that were measured.
        units: The number of units of settings and baselines.
        seeds: The distinct seeds.
        space: The searched parameters.
    """

    def __init__(self, observations: Sequence[Observation], space: Mapping[str, Domain]) -> None:
        _check(observations, space)
        self.space = space
        keys = list(dict.fromkeys(setting_key(unit.setting) for unit in observations))
        first = {setting_key(unit.setting): unit.setting for unit in reversed(observations)}
        self.settings: tuple[Parameters, ...] = tuple(
            setting for setting in map(first.__getitem__, keys) if not isinstance(setting, str)
        )
        self.baselines = tuple(key for key in keys if isinstance(key, str))
        self.units = len(observations)
        self.seeds = tuple(dict.fromkeys(unit.seed for unit in observations))
        self.this_network_only = len(self.seeds) == 1
        self._encoder = Encoder([*_corners(space), *self.settings], space)
        points = self._encoder.encode(self.settings) if space else np.zeros((len(self.settings), 0))
        order = [*map(setting_key, self.settings), *self.baselines]
        rows = np.array([order.index(setting_key(unit.setting)) for unit in observations])
        # If no two units share a seed, the seed effect and the interaction cannot be separated.
        self._confounded = self.this_network_only or len(self.seeds) == len(observations)
        groups = None if self._confounded else np.array([self.seeds.index(unit.seed) for unit in observations])
        self._images = _image_variances([unit.outcomes for unit in observations if unit.outcomes is not None])
        values = np.array([unit.value for unit in observations], dtype=np.float64)
        noise = None if self._images is None else np.full(len(values), self._images.per_unit)
        self._process = GaussianProcess(points, values, noise, self._encoder.dimensions, rows=rows, groups=groups)
        self.components = self._components()

    def posterior(self, settings: Sequence[Setting]) -> GaussianMixture:
        """The posterior of f at settings and baselines: their mean over unseen seeds and images of the same kind.

        With only one seed, it is their value under that seed.

        Args:
            settings: Points of the space, measured or not, and names of measured baselines. Length q.

        Returns:
            Their joint distribution, in the objective's unit.
        """
        f, _ = self._joint(settings, [])
        shared = 0.0 if self._images is None else self._images.shared or 0.0
        return replace(f, covariances=f.covariances + shared)

    def posterior_unseen_seed(self, settings: Sequence[Setting]) -> GaussianMixture:
        """The values of these settings when trained with one more seed, the same for all, over all images of the kind.

        Raises:
            ValueError: There is only one seed.
        """
        if self.this_network_only:
            raise ValueError(
                "an unseen seed must be judged by two or more seeds, got 1; train the settings with another seed"
            )
        f = self.posterior(settings)
        seed = np.square(self._process.group_sds)[:, None, None]
        interaction = np.square(self._process.white_sds)[:, None, None] * np.eye(len(settings))
        return replace(f, covariances=f.covariances + seed + interaction)

    def paired_difference(self, first: Setting, second: Setting) -> Comparison:
        """f of the first minus f of the second: their common seeds and images cancel."""
        difference = self._joint([first, second], [])[0].combination([1.0, -1.0])
        return Comparison(difference.mean, difference.interval(), 1 - difference.below(0.0))

    def foresight(self, settings: Sequence[Setting], setting: Setting, seed: int) -> Array:
        """How far one more unit would move the posterior means: the standard deviation of the change.

        Args:
            settings: The settings whose means change. Length q.
            setting: The unit's setting.
            seed: The unit's seed: a known one, or any other number for a new one.

        Returns:
            Shape (q,), in the objective's unit; signed, so that means that move together have the same sign.
        """
        return np.asarray(self.foresights(settings, [(setting, seed)])[0])

    def foresights(
        self,
        settings: Sequence[Setting],
        units: Sequence[tuple[Setting, int]],
        running: Sequence[tuple[Setting, int]] = (),
    ) -> Array:
        """``foresight`` for each of several alternative units, once the running units have finished too.

        Args:
            settings: The settings whose means change. Length q.
            units: The alternatives, each a setting and a seed. Length n.
            running: Units whose results will be known in any case.

        Returns:
            Shape (n, q).
        """
        rows, n = [*units, *running], len(units)
        seeds = list(dict.fromkeys(seed for _, seed in rows))
        distinct = list({setting_key(each): each for each in [*settings, *(setting for setting, _ in rows)]}.values())
        keys = [setting_key(each) for each in distinct]
        joint, has_seed_effects = self._joint(distinct, seeds)
        covariance = joint.covariance
        # A unit measures f of its setting plus the effect of its seed plus noise of its own.
        design = np.zeros((len(rows), len(covariance)))
        for at, (setting, seed) in enumerate(rows):
            design[at, keys.index(setting_key(setting))] = 1.0
            if has_seed_effects:
                design[at, len(distinct) + seeds.index(seed)] = 1.0
        noise = float(self._process.weights @ np.square(self._process.white_sds))
        noise += 0.0 if self._images is None else self._images.per_unit
        within = design @ covariance @ design.T + noise * np.eye(len(rows))
        cross = design @ covariance[:, [keys.index(setting_key(each)) for each in settings]]
        gain = np.linalg.solve(within[n:, n:], np.hstack([within[n:, :n], cross[n:]]))
        within, cross = within[:n, :n] - within[:n, n:] @ gain[:, :n], cross[:n] - within[:n, n:] @ gain[:, n:]
        return np.asarray(cross / np.sqrt(np.diagonal(within))[:, None])

    def points(self, count: int, seed: int = 0) -> list[Parameters]:
        """Points that fill the space evenly; see ``space_points``."""
        return space_points(self.space, count, seed)

    def _joint(self, settings: Sequence[Setting], seeds: Sequence[int]) -> tuple[GaussianMixture, bool]:
        """The joint posterior of f at settings and of seed effects, in that order, and whether it has seed effects."""
        inside = [at for at, setting in enumerate(settings) if not isinstance(setting, str)]
        outside = [at for at, setting in enumerate(settings) if isinstance(setting, str)]
        rows = [setting for setting in settings if not isinstance(setting, str)]
        names = [setting for setting in settings if isinstance(setting, str)]
        for name in names:
            if name not in self.baselines:
                raise ValueError(
                    f"a baseline must be one of {', '.join(self.baselines) or 'none'}, got {name}; measure it first"
                )
        nodes = (
            self._encoder.encode(rows) if rows and self.space else np.zeros((len(rows), len(self._encoder.dimensions)))
        )
        places = [self.baselines.index(name) for name in names]
        known = [*self.seeds, *(each for each in dict.fromkeys(seeds) if each not in self.seeds)]
        groups = [] if self._confounded else [known.index(each) for each in seeds]
        joint = self._process.joint(nodes, places, groups)
        order = np.argsort([*inside, *outside, *range(len(settings), len(settings) + len(groups))])
        means, covariances = joint.means[:, order], joint.covariances[:, order[:, None], order]
        return GaussianMixture(joint.weights, means, covariances), bool(groups)

    def _components(self) -> Components:
        weights = self._process.weights
        seed = None if self._confounded else _median(self._process.group_sds, weights) / _POINT
        interaction = _median(self._process.white_sds, weights) / _POINT
        shared = (
            None if self._images is None or self._images.shared is None else math.sqrt(self._images.shared) / _POINT
        )
        per_unit = None if self._images is None else math.sqrt(self._images.per_unit) / _POINT
        return Components(seed, None if self.this_network_only else interaction, shared, per_unit)


def fit(observations: Sequence[Observation], space: Mapping[str, Domain]) -> NoiseModel:
    """Fits the noise model of one objective.

    Args:
        observations: Finished units, in any order; any (setting, seed) may be missing. At least one must be a point of
            the space.
        space: The searched parameters.

    Raises:
        ValueError: An observation does not match the others.
    """
    return NoiseModel(observations, space)


def best_images(components: Components, images: int, training: float, attack: float) -> int | None:
    """The number of images per unit that gives the most certainty about the settings per unit of work.

    With n images, a unit's value relative to others with the same seed has variance i^2 + v / n, where i is the
    interaction and v the part of each image. The unit costs training + attack n. The returned n minimises the product
    of variance and cost.

    Args:
        components: The noise, measured with ``images`` images per unit.
        training: The work of training a unit, in images through the model, above 0.
        attack: The work for each attacked image, above 0.

    Returns:
        At least 1; None if the interaction or the images' part is unknown.
    """
    if not components.interaction or components.images_per_unit is None:
        return None
    ratio = images * (components.images_per_unit / components.interaction) ** 2
    return max(1, round(math.sqrt(ratio * training / attack)))


def setting_key(setting: Setting) -> Hashable:
    """A key for look-ups that equal settings share."""
    return setting if isinstance(setting, str) else tuple(sorted(setting.items()))


def setting_text(setting: Setting) -> str:
    """A setting as text: ``s = 1.6, m = 0.05``, or the baseline's name."""
    if isinstance(setting, str):
        return setting
    return ", ".join(f"{name} = {value_text(value)}" for name, value in setting.items())


def confirmed_mean(observations: Sequence[Observation], setting: Setting) -> tuple[float, Interval] | None:
    """A setting's mean over its units, without a model, and its 95 % interval; None with fewer than two units."""
    units = [unit for unit in observations if setting_key(unit.setting) == setting_key(setting)]
    if len(units) < 2:
        return None
    outcomes = [unit.outcomes for unit in units if unit.outcomes is not None]
    values = [unit.value for unit in units]
    if len(outcomes) == len(units):
        return float(np.mean(values)), seeds_and_images_interval(np.array(outcomes))
    return float(np.mean(values)), student_interval(values)


def confirmed_difference(
    observations: Sequence[Observation], first: Setting, second: Setting
) -> tuple[Difference, int] | None:
    """The difference of two settings over the seeds that both have, first minus second, without a model.

    Returns:
        The difference and the number of common seeds; None with fewer than two common seeds, or if both are the same
        setting. If all outcomes are known, the interval covers other images too.
    """
    keys = setting_key(first), setting_key(second)
    by_seed = [{unit.seed: unit for unit in observations if setting_key(unit.setting) == key} for key in keys]
    seeds = [seed for seed in by_seed[0] if seed in by_seed[1]]
    if len(seeds) < 2 or keys[0] == keys[1]:
        return None
    sides = [[units[seed] for seed in seeds] for units in by_seed]
    outcomes = [[unit.outcomes for unit in side if unit.outcomes is not None] for side in sides]
    if all(len(known) == len(seeds) for known in outcomes):
        return paired_difference(*map(np.array, outcomes)), len(seeds)
    return paired_difference(*(np.array([unit.value for unit in side]) for side in sides)), len(seeds)


def space_points(space: Mapping[str, Domain], count: int, seed: int = 0) -> list[Parameters]:
    """Points that fill a space evenly: a scrambled Sobol' sequence, rounded where a parameter is a whole number.

    Args:
        space: The parameters; at least one.
        count: The number of points, a power of two.
        seed: The seed of the scrambling.
    """
    from scipy.stats import qmc

    return points_at(space, qmc.Sobol(len(space), seed=seed).random(count))


def points_at(space: Mapping[str, Domain], uniform: Array) -> list[Parameters]:
    """The points of a space at coordinates in [0, 1], shape (n, parameters). Choices divide [0, 1] equally.

    A range that excludes its low end begins a thousandth of the range above it, not at the next floating-point number.
    """
    columns = [_values_of(domain, uniform[:, at]) for at, domain in enumerate(space.values())]
    return [dict(zip(space, row, strict=True)) for row in zip(*columns, strict=True)]


def coordinates_of(space: Mapping[str, Domain], points: Sequence[Parameters]) -> Array:
    """The coordinates of points of a space, in [0, 1]: the inverse of ``points_at``."""
    columns = [[_coordinate_of(point[name], domain) for point in points] for name, domain in space.items()]
    return np.array(columns).T.reshape(len(points), len(space))


def _values_of(domain: Domain, uniform: Array) -> list[Value]:
    if not isinstance(domain, Range):
        return [domain.choices[min(int(u * len(domain.choices)), len(domain.choices) - 1)] for u in uniform.tolist()]
    low, high = coordinate(domain.lowest, domain), coordinate(domain.high, domain)
    inside = np.maximum(uniform, _ABOVE if domain.low_exclusive else 0.0)
    values = np.clip(values_at(low + (high - low) * inside, domain), domain.lowest, domain.high)
    return [domain.cast(round(value)) if domain.integer else value for value in values.tolist()]


def _coordinate_of(value: Value, domain: Domain) -> float:
    """The position of a value in its domain, in [0, 1]: the inverse of ``_values_of``."""
    if not isinstance(domain, Range):
        return (domain.choices.index(value) + 0.5) / len(domain.choices)
    low, high = coordinate(domain.lowest, domain), coordinate(domain.high, domain)
    return (coordinate(float(value), domain) - low) / (high - low or 1.0)


@dataclass(frozen=True)
class _ImageVariances:
    """The variances of one unit's mean over its images. ``shared`` is None with one unit, which cannot separate it."""

    shared: float | None
    per_unit: float


def _image_variances(outcomes: Sequence[npt.NDArray[np.bool_]]) -> _ImageVariances | None:
    """The variances by a two-way analysis over units and images; None without outcomes on at least two images."""
    if not outcomes or len(outcomes[0]) < 2:
        return None
    table = np.array(outcomes)
    units, images = table.shape
    if units == 1 or table.all() or not table.any():
        # Agresti and Coull add two successes and two failures, which keeps the variance above zero.
        share = (float(table[0].sum()) + 2) / (images + 4)
        variance = share * (1 - share) / (images + 4)
        return _ImageVariances(None, variance) if units == 1 else _ImageVariances(variance, 0.0)
    squares = mean_squares(table)
    return _ImageVariances(max(squares.images - squares.rest, 0.0) / (units * images), squares.rest / images)


def _median(values: Array, weights: Array) -> float:
    """The weighted median."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), 0.5)])


def _corners(space: Mapping[str, Domain]) -> list[Parameters]:
    """Rows in which each parameter takes all its choices, or both ends of its range."""
    ends = {name: [d.lowest, d.high] if isinstance(d, Range) else list(d.choices) for name, d in space.items()}
    count = max(map(len, ends.values()), default=0)
    return [{name: values[min(at, len(values) - 1)] for name, values in ends.items()} for at in range(count)]


def _check(observations: Sequence[Observation], space: Mapping[str, Domain]) -> None:
    if all(isinstance(unit.setting, str) for unit in observations):
        raise ValueError("observations must have a setting of the space, got none; finish one unit first")
    for unit in observations:
        if not math.isfinite(unit.value):
            raise ValueError(f"a value must be finite, got {unit.value} for {setting_text(unit.setting)}; leave it out")
        missing = [] if isinstance(unit.setting, str) else [name for name in space if name not in unit.setting]
        if missing:
            raise ValueError(f"a setting must have every parameter, got none for {', '.join(missing)}; add it")
    counts = Counter(None if unit.outcomes is None else len(unit.outcomes) for unit in observations)
    if len(counts) > 1:
        raise ValueError(
            f"all units of a fit must have outcomes on the same images, got {sorted(map(str, counts))}; "
            "leave out the units that differ, or all outcomes"
        )
