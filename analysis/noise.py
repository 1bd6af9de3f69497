"""The noise of a sweep: what seeds and images do to a measurement, and what they leave of a setting's own value.

For each objective, value(setting, seed) = f(setting) + seed effect + interaction + image noise. A good seed is good for
every setting, so seed effects are estimated jointly, and settings that share seeds are compared in pairs. Image noise
has a part that all units share (difficult images), which cancels in differences and does not shrink with more seeds,
and a part per unit. Here f is a smooth function over the space (a Gaussian process); a baseline has a value of its own.

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
_POINT: Final = 0.01  # of a fraction


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One objective of one unit, which is a setting trained with a seed.

    Args:
        setting: The parameters, one for each of the space; or a baseline's name.
        seed: Any number; units with the same seed share their seed effect.
        value: The objective, e.g. a fraction in [0, 1].
        outcomes: Whether each image counts, where ``value`` is their mean: bool (images,). The units of a fit share
            their images.
    """

    setting: Setting
    seed: int
    value: float
    outcomes: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Components:
    """Standard deviations of one unit's value, in points: hundredths of the objective's unit. None is unknown.

    Those of seed and interaction are medians of their posterior, the images' are estimates by mean squares.

    Args:
        seed: Between seeds, common to all settings.
        interaction: Between seeds, on top, for each setting on its own. Where no two settings share a seed, the two
            cannot be told apart: ``seed`` is None and this is both. Without outcomes it holds the images' part too.
        images_shared: Of the choice of images, common to all units.
        images_per_unit: Of the choice of images, on top, for each unit on its own.
    """

    seed: float | None
    interaction: float | None
    images_shared: float | None
    images_per_unit: float | None

    @property
    def sentence(self) -> str:
        """The components for people."""
        both = "per setting and seed" if self.seed is not None else "between seeds, per setting and in common"
        named = {
            "between seeds": self.seed,
            both: self.interaction,
            "of the images in common": self.images_shared,
            "of the images per unit": self.images_per_unit,
        }
        known = ", ".join(f"{sd:.2g} {name}" for name, sd in named.items() if sd is not None)
        only = "" if self.interaction is not None else f" ({THIS_NETWORK_ONLY}: one seed)"
        return f"Standard deviations in points: {known or 'unknown'}{only}."


@dataclass(frozen=True)
class Comparison:
    """A difference of two settings, in the objective's unit."""

    mean: float
    interval: Interval  # at 95 %
    above: float  # the probability that the difference is above zero


class NoiseModel:
    """What the units of a sweep say about one objective. Made by ``fit``.

    Attributes:
        components: The parts of the noise.
        this_network_only: Whether there is one seed, so that nothing holds for another.
        settings: The points of the space that were measured, in the order of the first unit.
        baselines: The names of the baselines that were measured.
        units: The number of units of settings and baselines.
        seeds: The different seeds.
        space: The searched parameters.
    """

    def __init__(self, observations: Sequence[Observation], space: Mapping[str, Domain]) -> None:
        _check(observations, space)
        self.space = space
        keys = list(dict.fromkeys(setting_key(seen.setting) for seen in observations))
        first = {setting_key(seen.setting): seen.setting for seen in reversed(observations)}
        self.settings: tuple[Parameters, ...] = tuple(
            setting for setting in map(first.__getitem__, keys) if not isinstance(setting, str)
        )
        self.baselines = tuple(key for key in keys if isinstance(key, str))
        self.units = len(observations)
        self.seeds = tuple(dict.fromkeys(seen.seed for seen in observations))
        self.this_network_only = len(self.seeds) == 1
        self._encoder = Encoder([*_corners(space), *self.settings], space)
        points = self._encoder.encode(self.settings) if space else np.zeros((len(self.settings), 0))
        order = [*map(setting_key, self.settings), *self.baselines]
        rows = np.array([order.index(setting_key(seen.setting)) for seen in observations])
        # Where no two units share a seed, seeds and interaction are one.
        apart = self.this_network_only or len(self.seeds) == len(observations)
        groups = None if apart else np.array([self.seeds.index(seen.seed) for seen in observations])
        self._apart = apart
        self._images = _image_variances([seen.outcomes for seen in observations if seen.outcomes is not None])
        values = np.array([seen.value for seen in observations], dtype=np.float64)
        noise = None if self._images is None else np.full(len(values), self._images.per_unit)
        self._process = GaussianProcess(points, values, noise, self._encoder.dimensions, rows=rows, groups=groups)
        self.components = self._components()

    def posterior(self, settings: Sequence[Setting]) -> GaussianMixture:
        """f at settings and baselines: the expectation over unseen seeds and images of the same kind.

        With one seed it is what this seed makes of them.

        Args:
            settings: Points of the space, measured or not, and names of measured baselines. Length q.

        Returns:
            Their joint distribution, in the objective's unit.
        """
        f, _ = self._joint(settings, [])
        shared = 0.0 if self._images is None else self._images.shared or 0.0
        return replace(f, covariances=f.covariances + shared)

    def posterior_unseen_seed(self, settings: Sequence[Setting]) -> GaussianMixture:
        """What training these settings with one more seed, the same for all, would give over all images of the kind.

        A ``ValueError`` says that one seed does not tell.
        """
        if self.this_network_only:
            raise ValueError(
                "an unseen seed must be judged by two or more seeds, got 1; train the settings with another"
            )
        f = self.posterior(settings)
        common = np.square(self._process.group_sds)[:, None, None]
        own = np.square(self._process.white_sds)[:, None, None] * np.eye(len(settings))
        return replace(f, covariances=f.covariances + common + own)

    def paired_difference(self, first: Setting, second: Setting) -> Comparison:
        """f of the first minus f of the second: their common seeds and images cancel."""
        difference = self._joint([first, second], [])[0].combination([1.0, -1.0])
        return Comparison(difference.mean, difference.interval(), 1 - difference.below(0.0))

    def foresight(self, settings: Sequence[Setting], setting: Setting, seed: int) -> Array:
        """How far one more unit is expected to move the posterior means: their standard deviation before it is known.

        Args:
            settings: Where to look. Length q.
            setting: What the unit trains.
            seed: With which seed: a known one, or any other for a new one.

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
        """``foresight`` for each of several units, each on its own, once what is running has ended too.

        Args:
            settings: Where to look. Length q.
            units: Settings and seeds, of which only one would be trained. Length n.
            running: Units whose results will be known anyway.

        Returns:
            Shape (n, q).
        """
        rows, n = [*units, *running], len(units)
        seeds = list(dict.fromkeys(seed for _, seed in rows))
        every = list({setting_key(each): each for each in [*settings, *(setting for setting, _ in rows)]}.values())
        keys = [setting_key(each) for each in every]
        joint, effects = self._joint(every, seeds)
        covariance = joint.covariance
        # What a unit measures is its setting's f and its seed's effect, and noise of its own.
        sums = np.zeros((len(rows), len(covariance)))
        for at, (setting, seed) in enumerate(rows):
            sums[at, keys.index(setting_key(setting))] = 1.0
            if effects:
                sums[at, len(every) + seeds.index(seed)] = 1.0
        own = float(self._process.weights @ np.square(self._process.white_sds))
        own += 0.0 if self._images is None else self._images.per_unit
        among = sums @ covariance @ sums.T + own * np.eye(len(rows))
        towards = sums @ covariance[:, [keys.index(setting_key(each)) for each in settings]]
        known = np.linalg.solve(among[n:, n:], np.hstack([among[n:, :n], towards[n:]]))
        among, towards = among[:n, :n] - among[:n, n:] @ known[:, :n], towards[:n] - among[:n, n:] @ known[:, n:]
        return np.asarray(towards / np.sqrt(np.diagonal(among))[:, None])

    def points(self, count: int, seed: int = 0) -> list[Parameters]:
        """Points that fill the space evenly, for any number of its parameters: see ``space_points``."""
        return space_points(self.space, count, seed)

    def _joint(self, settings: Sequence[Setting], seeds: Sequence[int]) -> tuple[GaussianMixture, bool]:
        """f at settings and the effects of seeds, in that order, and whether seeds have effects of their own."""
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
        groups = [] if self._apart else [known.index(each) for each in seeds]
        joint = self._process.joint(nodes, places, groups)
        order = np.argsort([*inside, *outside, *range(len(settings), len(settings) + len(groups))])
        means, covariances = joint.means[:, order], joint.covariances[:, order[:, None], order]
        return GaussianMixture(joint.weights, means, covariances), bool(groups)

    def _components(self) -> Components:
        weights = self._process.weights
        seed = None if self._apart else _median(self._process.group_sds, weights) / _POINT
        interaction = _median(self._process.white_sds, weights) / _POINT
        shared = (
            None if self._images is None or self._images.shared is None else math.sqrt(self._images.shared) / _POINT
        )
        per_unit = None if self._images is None else math.sqrt(self._images.per_unit) / _POINT
        return Components(seed, None if self.this_network_only else interaction, shared, per_unit)


def fit(observations: Sequence[Observation], space: Mapping[str, Domain]) -> NoiseModel:
    """Fits the noise model of one objective.

    Args:
        observations: Finished units, in any order; any (setting, seed) may be missing. At least one is of the space.
        space: The searched parameters.

    Returns:
        The model. A ``ValueError`` says which observation does not fit the others.
    """
    return NoiseModel(observations, space)


def setting_key(setting: Setting) -> Hashable:
    """What equal settings have in common and can be looked up by."""
    return setting if isinstance(setting, str) else tuple(sorted(setting.items()))


def setting_text(setting: Setting) -> str:
    """A setting for people: ``s = 1.6, m = 0.05``, or the baseline's name."""
    if isinstance(setting, str):
        return setting
    return ", ".join(f"{name} = {value_text(value)}" for name, value in setting.items())


def confirmed_mean(observations: Sequence[Observation], setting: Setting) -> tuple[float, Interval] | None:
    """A setting's mean over its units, without a model, and its 95 % interval; None with fewer than two units."""
    units = [seen for seen in observations if setting_key(seen.setting) == setting_key(setting)]
    if len(units) < 2:
        return None
    outcomes = [seen.outcomes for seen in units if seen.outcomes is not None]
    values = [seen.value for seen in units]
    if len(outcomes) == len(units):
        return float(np.mean(values)), seeds_and_images_interval(np.array(outcomes))
    return float(np.mean(values)), student_interval(values)


def confirmed_difference(
    observations: Sequence[Observation], first: Setting, second: Setting
) -> tuple[Difference, int] | None:
    """The difference of two settings over the seeds that both have, first minus second, without a model.

    Returns:
        The difference, for other images too where all outcomes are known, and the number of seeds; None with fewer than
        two seeds in common, or if the two are one setting.
    """
    keys = setting_key(first), setting_key(second)
    units = [{seen.seed: seen for seen in observations if setting_key(seen.setting) == key} for key in keys]
    seeds = [seed for seed in units[0] if seed in units[1]]
    if len(seeds) < 2 or keys[0] == keys[1]:
        return None
    sides = [[unit[seed] for seed in seeds] for unit in units]
    outcomes = [[seen.outcomes for seen in side if seen.outcomes is not None] for side in sides]
    if all(len(known) == len(seeds) for known in outcomes):
        return paired_difference(*map(np.array, outcomes)), len(seeds)
    return paired_difference(*(np.array([seen.value for seen in side]) for side in sides)), len(seeds)


def space_points(space: Mapping[str, Domain], count: int, seed: int = 0) -> list[Parameters]:
    """Points that fill a space evenly: a scrambled Sobol' sequence, rounded where a parameter is a whole number.

    Args:
        space: The parameters; at least one.
        count: The number of points, a power of two.
        seed: Of the scrambling.
    """
    from scipy.stats import qmc

    return points_at(space, qmc.Sobol(len(space), seed=seed).random(count))


def points_at(space: Mapping[str, Domain], uniform: Array) -> list[Parameters]:
    """The points of a space at coordinates in [0, 1], shape (n, parameters): choices have equal shares."""
    columns = [_spread(domain, uniform[:, at]) for at, domain in enumerate(space.values())]
    return [dict(zip(space, row, strict=True)) for row in zip(*columns, strict=True)]


def coordinates_of(space: Mapping[str, Domain], points: Sequence[Parameters]) -> Array:
    """Coordinates of points of a space, in [0, 1], that ``points_at`` turns back into them."""
    columns = [[_share(point[name], domain) for point in points] for name, domain in space.items()]
    return np.array(columns).T.reshape(len(points), len(space))


def _spread(domain: Domain, uniform: Array) -> list[Value]:
    if not isinstance(domain, Range):
        return [domain.choices[min(int(u * len(domain.choices)), len(domain.choices) - 1)] for u in uniform.tolist()]
    low, high = coordinate(domain.lowest, domain), coordinate(domain.high, domain)
    values = np.clip(values_at(low + (high - low) * uniform, domain), domain.lowest, domain.high)
    return [domain.cast(round(value)) if domain.integer else value for value in values.tolist()]


def _share(value: Value, domain: Domain) -> float:
    """Where a value lies in its domain: the inverse of ``_spread``."""
    if not isinstance(domain, Range):
        return (domain.choices.index(value) + 0.5) / len(domain.choices)
    low, high = coordinate(domain.lowest, domain), coordinate(domain.high, domain)
    return (coordinate(float(value), domain) - low) / (high - low or 1.0)


@dataclass(frozen=True)
class _ImageVariances:
    """Of the mean over one unit's images. ``shared`` is None where one unit cannot tell it from the rest."""

    shared: float | None
    per_unit: float


def _image_variances(outcomes: Sequence[npt.NDArray[np.bool_]]) -> _ImageVariances | None:
    """The variances by the two-way analysis of units and images; None without outcomes of two images."""
    if not outcomes or len(outcomes[0]) < 2:
        return None
    table = np.array(outcomes)
    units, images = table.shape
    if units == 1 or table.all() or not table.any():
        # Agresti and Coull's two added successes and failures: no share of images is certain.
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
    if all(isinstance(seen.setting, str) for seen in observations):
        raise ValueError("observations must have a setting of the space, got none; finish one unit first")
    for seen in observations:
        if not math.isfinite(seen.value):
            raise ValueError(f"a value must be finite, got {seen.value} for {setting_text(seen.setting)}; leave it out")
        missing = [] if isinstance(seen.setting, str) else [name for name in space if name not in seen.setting]
        if missing:
            raise ValueError(f"a setting must have every parameter, got none for {', '.join(missing)}; add it")
    counts = Counter(None if seen.outcomes is None else len(seen.outcomes) for seen in observations)
    if len(counts) > 1:
        raise ValueError(
            f"all units of a fit must have outcomes on the same images, got {sorted(map(str, counts))}; "
            "leave out the units that differ, or all outcomes"
        )
