"""A Gaussian process over parameters of any kind, with random effects, averaged over its hyperparameters.

Rasmussen, Williams 2006: Gaussian Processes for Machine Learning. MIT Press.
Searle, Casella, McCulloch 1992: Variance Components. Wiley.
Gelman 2006: Prior distributions for variance parameters in hierarchical models. Bayesian Analysis 1.
Owen, Zhou 2000: Safe and effective importance sampling. JASA 95.
Garrido-Merchan, Hernandez-Lobato 2020: Dealing with categorical and integer-valued variables in Bayesian optimization
with Gaussian processes. Neurocomputing 380.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis.mixture import GaussianMixture, cholesky
from trainables.settings.space import Domain, Range, Value

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Length scales are in ranges of the parameter, standard deviations in those of the measured values.
_LENGTH_CENTRE: Final = 0.0  # logarithm of a range
_LENGTH_SPREAD: Final = 0.8  # of the logarithm: 95 % of the prior lie between a fifth of the range and five ranges
# Prior median of the sds of groups and white noise. These are about 1; the larger median keeps the prior from
# narrowing their posterior.
_SD_CENTRE: Final = math.log(3.0)
_FLAT_CENTRE: Final = math.log(0.02)  # of the amplitude of a constant function: negligible
_FLAT_SPREAD: Final = 0.5  # of the logarithm
_FLAT: Final = 0.2  # prior probability that the function is constant
_LOG_LENGTHS: Final = (math.log(0.05), math.log(20.0))
_LOG_SDS: Final = (math.log(0.005), math.log(50.0))
_LEVEL_VARIANCE: Final = 25.0
# Where the search for the modes starts: length scale, then the sds of the function, the groups and the rest.
_STARTS: Final = ((1.5, 0.7, 0.7, 0.5), (1.5, 0.02, 0.9, 0.7), (0.3, 0.8, 0.5, 0.1))
_SAME_MODE: Final = 0.3  # modes that differ by less in every logarithm are the same
_WORSE_MODE: Final = 8.0  # modes that lie so many nats below the best are ignored
_SAMPLES: Final = 128
_PRIOR_SHARE: Final = 8  # every eighth sample is drawn from the prior
_DEGREES: Final = 5.0  # of freedom of the t distributions around the modes
_WIDEST: Final = 1.5  # sd of the logarithm of a hyperparameter around a mode, at most
_KEPT: Final = 48  # samples to average over, resampled by weight; duplicates are merged
_STEP: Final = 1e-4  # of the logarithm, for second derivatives


class Encoder:
    """Turns parameters into coordinates, in units of the range that the measured values span.

    A number has one coordinate: itself, or its logarithm where the domain is logarithmic. A category has one coordinate
    per value that occurs: 1 / sqrt(2) for its own, 0 for the others. Two different categories are then at distance 1,
    like the two ends of a range. With one length scale per parameter this is the indicator kernel of Garrido-Merchan
    and Hernandez-Lobato 2020. Integers are treated as real numbers; round a node before encoding it.

    Args:
        rows: The measured settings, at least one.
        domains: The parameters to encode; each row has a value for every one.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], domains: Mapping[str, Domain]) -> None:
        self._domains = domains
        self._low: dict[str, float] = {}
        self._span: dict[str, float] = {}
        self._categories: dict[str, tuple[Value, ...]] = {}
        dimensions: list[int] = []
        for index, (name, domain) in enumerate(domains.items()):
            values = [row[name] for row in rows]
            if isinstance(domain, Range):
                positions = [coordinate(value, domain) for value in values]
                self._low[name] = min(positions)
                self._span[name] = (max(positions) - min(positions)) or 1.0
                dimensions.append(index)
            else:
                self._categories[name] = tuple(dict.fromkeys(values))
                dimensions += [index] * len(self._categories[name])
        self.dimensions = tuple(dimensions)  # for each column, the index of its parameter

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Array:
        """The coordinates of settings, shape (rows, columns). A category that was never measured has all zeros."""
        columns = []
        for name, domain in self._domains.items():
            if isinstance(domain, Range):
                positions = np.array([coordinate(row[name], domain) for row in rows])
                columns.append((positions - self._low[name]) / self._span[name])
            else:
                columns += [
                    np.array([float(row[name] == category) for row in rows]) / math.sqrt(2)
                    for category in self._categories[name]
                ]
        return np.stack(columns, axis=1)

    def column(self, name: str) -> int:
        """The column of a numeric parameter."""
        return self.dimensions.index(list(self._domains).index(name))

    def positions(self, name: str, coordinates: Array) -> Array:
        """A numeric parameter's ``coordinate`` where its encoded column has these values."""
        return self._low[name] + self._span[name] * coordinates


def coordinate(value: float, domain: Range) -> float:
    """A number on the scale of its domain: its decimal logarithm if the domain is logarithmic."""
    return math.log10(value) if domain.log else float(value)


def values_at(coordinates: npt.ArrayLike, domain: Range) -> Array:
    """The numbers at coordinates: the inverse of ``coordinate``."""
    at = np.asarray(coordinates, dtype=np.float64)
    return np.power(10.0, at) if domain.log else at


class GaussianProcess:
    """A Gaussian process fitted to measurements.

    A measured value is the sum of a smooth function of its point (a free level and an anisotropic Matern 5/2), a normal
    effect of its group (for example of the training seed), white noise, and noise of known variance. A value may also
    belong to a separate place instead of a point (for example to a baseline). Each separate place has a mean of its
    own, and the same group effects and noise.

    Predictions are averaged over the posterior of the hyperparameters. With only a couple of dozen settings, its
    maximum often makes a parameter irrelevant, and an interval around that fit misses the truth where the average does
    not. The average is over importance samples from t distributions around the modes and from the prior, with fixed
    random numbers. The priors are wide: log-normal for length scales, half-Cauchy for standard deviations (Gelman
    2006). The prior probability of a constant function is one fifth; without it, no data could make one likely.

    The size of all matrices is the number of points, places and groups, however many values there are.

    Args:
        points: The measured points, in coordinates of order 1 (see ``Encoder``). Shape (n, d), n at least 1.
        values: The measured values, in any unit. Shape (u,).
        noise: The known noise variance of each value. Shape (u,); None if unknown. It is treated as independent, though
            settings measured on the same images share part of it. The fit is then cautious about the shape, and its
            standard deviation leaves out the shift of the whole surface that other images would cause.
        dimensions: The parameter that each column belongs to, shape (d,); columns of one parameter share a length
            scale. By default each column is a parameter.
        rows: The point of each value, shape (u,). Numbers from n on are separate places, numbered without gaps. By
            default each value has a point of its own.
        groups: The group of each value, numbered from 0 without gaps, shape (u,). None without groups.

    Source:
        Rasmussen and Williams 2006, Eq. 2.25, 2.26 and 2.30, section 2.7 (the level), chapter 5 (the average) and
        Eq. 5.9 (the gradient). The wide priors of level and means make it the restricted likelihood of Searle, Casella
        and McCulloch 1992.
    """

    def __init__(
        self,
        points: Array,
        values: Array,
        noise: Array | None = None,
        dimensions: Sequence[int] | None = None,
        *,
        rows: Indices | None = None,
        groups: Indices | None = None,
    ) -> None:
        given = np.zeros(len(values)) if noise is None else noise
        self._rows: Indices = np.arange(len(points)) if rows is None else rows
        self._groups = groups
        self._points = points
        self._dimensions = np.arange(points.shape[1]) if dimensions is None else np.array(dimensions, dtype=int)
        self._places = max(int(self._rows.max()) + 1 - len(points), 0)
        effects = 0 if groups is None else int(groups.max()) + 1
        self._size = len(points) + self._places + effects
        # Each separate place has its own origin; otherwise a distant one would be pulled towards the others.
        place = np.maximum(self._rows - len(points) + 1, 0)
        self._origins = np.bincount(place, values) / np.maximum(np.bincount(place), 1)
        centred = values - self._origins[place]
        # If all values are equal, the noise sets the scale; without noise it is 1.
        self._scale = float(np.sqrt(centred.var() + given.mean())) or 1.0
        self._values = centred / self._scale
        self._noise = given / self._scale**2
        self._squares = self._squared_distances(points)
        self._mixture = self._sample_hyperparameters()

    def predict(self, nodes: Array) -> tuple[Array, Array]:
        """The function at nodes (m, d), without noise and groups: mean (m,) and standard deviation (m,)."""
        first, second = np.zeros(len(nodes)), np.zeros(len(nodes))
        squares = self._squared_distances(nodes)
        for weight, theta in self._mixture:
            fit = self._fit(theta)
            cross = self._cross(theta, squares)
            mean = fit.pull @ cross
            variance = _LEVEL_VARIANCE + theta.amplitude**2 - np.sum(cross * (fit.precision @ cross), axis=0)
            first += weight * mean
            second += weight * (mean**2 + np.maximum(variance, 0.0))
        sd = np.sqrt(np.maximum(second - first**2, 0.0))
        return self._origins[0] + self._scale * first, self._scale * sd

    def joint(self, nodes: Array, places: Sequence[int] = (), groups: Sequence[int] = ()) -> GaussianMixture:
        """The joint posterior of the function, the means of separate places and the effects of groups.

        Args:
            nodes: Points at which to predict the function. Shape (m, d); m may be 0.
            places: Separate places, counted from 0.
            groups: Groups. Numbers that are not smaller than the number of groups stand for unmeasured ones.

        Returns:
            The distribution of m + places + groups values in that order, in the values' unit.
        """
        squares, between = self._squared_distances(nodes), self._distances_among(nodes)
        origins = [self._origins[0]] * len(nodes) + [self._origins[1 + place] for place in places]
        shift = np.array(origins + [0.0] * len(groups))
        first_group = len(self._points) + self._places
        columns = [len(self._points) + place for place in places] + [first_group + group for group in groups]
        means, covariances = [], []
        for _, theta in self._mixture:
            fit = self._fit(theta)
            variances = [_LEVEL_VARIANCE] * len(places) + [theta.group**2] * len(groups)
            effects = np.zeros((self._size, len(columns)))
            for at, (column, variance) in enumerate(zip(columns, variances, strict=True)):
                if column < self._size:
                    effects[column, at] = variance
            cross = np.hstack([self._cross(theta, squares), effects])
            prior = np.diag(np.array([0.0] * len(nodes) + variances))
            prior[len(nodes) :, len(nodes) :] *= np.equal.outer(columns, columns)
            prior[: len(nodes), : len(nodes)] = _LEVEL_VARIANCE + theta.amplitude**2 * _matern(between, theta.lengths)
            means.append(shift + self._scale * (fit.pull @ cross))
            covariances.append(self._scale**2 * (prior - cross.T @ fit.precision @ cross))
        weights = np.array([weight for weight, _ in self._mixture])
        return GaussianMixture(weights, np.array(means), np.array(covariances))

    @property
    def weights(self) -> Array:
        """The weight of each sample of the hyperparameters. Shape (k,)."""
        return np.array([weight for weight, _ in self._mixture])

    @property
    def group_sds(self) -> Array:
        """The standard deviation of the groups' effects in each sample, in the values' unit; 0 without groups."""
        return self._scale * np.array([theta.group for _, theta in self._mixture])

    @property
    def white_sds(self) -> Array:
        """The standard deviation of the white noise in each sample, in the values' unit. Shape (k,)."""
        return self._scale * np.array([theta.white for _, theta in self._mixture])

    def _sample_hyperparameters(self) -> list[tuple[float, _Hyperparameters]]:
        """Samples of the hyperparameters with their weights, thinned by systematic resampling."""
        modes, spreads = self._modes()
        samples, log_proposal = _proposals(modes, spreads, len(self._squares))
        log_weights = np.array([self._log_posterior(sample) for sample in samples]) - log_proposal
        weights = np.exp(log_weights - log_weights.max())
        edges = np.cumsum(weights / weights.sum())
        drawn = np.searchsorted(edges[:-1], (np.arange(_KEPT) + 0.5) / _KEPT)
        kept, counts = np.unique(drawn, return_counts=True)
        return [
            (count / _KEPT, self._unpacked(samples[index]))
            for index, count in zip(kept.tolist(), counts.tolist(), strict=True)
        ]

    def _modes(self) -> tuple[list[Array], list[Array]]:
        """The modes of the posterior, and the covariance around each."""
        from scipy.optimize import minimize

        lengths = len(self._squares)
        bounds = [_LOG_LENGTHS] * lengths + [_LOG_SDS] * (2 if self._groups is None else 3)
        solved = []
        for length, amplitude, group, white in _STARTS:
            sds = [amplitude, white] if self._groups is None else [amplitude, group, white]
            start = np.log([length] * lengths + sds)
            result = minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
            solved.append((float(result.fun), np.asarray(result.x)))
        solved.sort(key=lambda pair: pair[0])
        modes: list[Array] = []
        for loss, mode in solved:
            new = all(np.abs(mode - other).max() > _SAME_MODE for other in modes)
            if new and loss < solved[0][0] + _WORSE_MODE:
                modes.append(mode)
        return modes, [self._spread(mode) for mode in modes]

    def _spread(self, mode: Array) -> Array:
        """The covariance of the logarithms of the hyperparameters around a mode."""
        steps = _STEP * np.eye(len(mode))
        slopes = [(self._loss(mode + step)[1] - self._loss(mode - step)[1]) / (2 * _STEP) for step in steps]
        curvature = (np.array(slopes) + np.array(slopes).T) / 2
        values, vectors = np.linalg.eigh(curvature)
        return np.asarray((vectors / np.maximum(values, 1 / _WIDEST**2)) @ vectors.T)

    def _log_posterior(self, logs: Array) -> float:
        lengths = len(self._squares)
        outside = (logs[:lengths] < _LOG_LENGTHS[0]).any() or (logs[:lengths] > _LOG_LENGTHS[1]).any()
        if outside or (logs[lengths:] < _LOG_SDS[0]).any() or (logs[lengths:] > _LOG_SDS[1]).any():
            return -math.inf
        return self._fit(self._unpacked(logs)).log_likelihood + _log_prior(logs, lengths)[0]

    def _loss(self, logs: Array) -> tuple[float, Array]:
        """The negative log posterior of the logarithms of the hyperparameters, and its gradient."""
        theta = self._unpacked(logs)
        fit = self._fit(theta)
        prior, prior_slope = _log_prior(logs, len(self._squares))
        n, places = len(self._points), len(self._points) + self._places
        matern, slope = _matern_with_slope(self._squares, theta.lengths)
        # Eq. 5.9, for the covariance of the effects in place of that of the values.
        sensitivity = (np.outer(fit.pull, fit.pull) - fit.precision) / 2
        shape = theta.amplitude**2 * sensitivity[:n, :n]
        by_length = np.tensordot(self._squares, shape * slope, axes=2) / np.square(theta.lengths)
        gradient = [*by_length, 2 * float(np.sum(shape * matern))]
        if self._groups is not None:
            gradient.append(2 * theta.group**2 * float(np.trace(sensitivity[places:, places:])))
        gradient.append(theta.white**2 * fit.noise_slope)
        return -fit.log_likelihood - prior, -np.array(gradient) - prior_slope

    def _fit(self, theta: _Hyperparameters) -> _Fit:
        """The solution for one set of hyperparameters.

        The values' covariance is W B W' + D, where W says which effects make up a value, B is the effects' covariance
        and D is diagonal. With B = L L', only I + L' W' D^-1 W L is factored, which is well conditioned.
        """
        from scipy.linalg import solve_triangular

        n = len(self._points)
        weight = 1 / (self._noise + theta.white**2)
        gathered, target = self._gather(weight)
        root = np.diag(
            np.array([0.0] * n + [math.sqrt(_LEVEL_VARIANCE)] * self._places + self._effects * [theta.group])
        )
        root[:n, :n] = cholesky(_LEVEL_VARIANCE + theta.amplitude**2 * _matern(self._squares, theta.lengths))
        factor = np.linalg.cholesky(np.eye(self._size) + root.T @ gathered @ root)
        half = solve_triangular(factor, root.T, lower=True, check_finite=False)
        solved = half @ target
        log_likelihood = -0.5 * (
            float(weight @ self._values**2 - solved @ solved)
            - float(np.log(weight).sum())
            + 2 * float(np.log(np.diagonal(factor)).sum())
        )
        effects, spread = half.T @ solved, half.T @ half
        rest, within = self._values - self._sums(effects), np.diagonal(spread)[self._rows]
        if self._groups is not None:
            column = len(self._points) + self._places + self._groups
            within = within + 2 * spread[self._rows, column] + np.diagonal(spread)[column]
        noise_slope = float(np.sum((weight * rest) ** 2) - np.sum(weight - weight**2 * within))
        halved = half @ gathered
        return _Fit(log_likelihood, target - gathered @ effects, gathered - halved.T @ halved, noise_slope)

    @property
    def _effects(self) -> int:
        return self._size - len(self._points) - self._places

    def _sums(self, effects: Array) -> Array:
        """The sum of the effects that make up each value. Shape (u,)."""
        total = effects[self._rows]
        return total if self._groups is None else total + effects[len(self._points) + self._places + self._groups]

    def _gather(self, weight: Array) -> tuple[Array, Array]:
        """W' D^-1 W, shape (size, size), and W' D^-1 times the values, shape (size,)."""
        columns = [self._rows]
        if self._groups is not None:
            columns.append(len(self._points) + self._places + self._groups)
        gathered, target = np.zeros((self._size, self._size)), np.zeros(self._size)
        for first in columns:
            np.add.at(target, first, weight * self._values)
            for second in columns:
                np.add.at(gathered, (first, second), weight)
        return gathered, target

    def _unpacked(self, logs: Array) -> _Hyperparameters:
        lengths = len(self._squares)
        amplitude, *group, white = np.exp(logs[lengths:]).tolist()
        return _Hyperparameters(np.exp(logs[:lengths]), amplitude, group[0] if group else 0.0, white)

    def _cross(self, theta: _Hyperparameters, squares: Array) -> Array:
        """The prior covariance of all effects with the function at nodes. Shape (size, m)."""
        cross = np.zeros((self._size, squares.shape[2]))
        cross[: len(self._points)] = _LEVEL_VARIANCE + theta.amplitude**2 * _matern(squares, theta.lengths)
        return cross

    def _squared_distances(self, nodes: Array) -> Array:
        """Between the points and the nodes, for each parameter. Shape (parameters, n, m)."""
        return _squares(self._points, nodes, self._dimensions)

    def _distances_among(self, nodes: Array) -> Array:
        return _squares(nodes, nodes, self._dimensions)


@dataclass(frozen=True)
class _Hyperparameters:
    lengths: Array
    amplitude: float
    group: float
    white: float


@dataclass(frozen=True)
class _Fit:
    """The solution for one set of hyperparameters.

    Effects whose prior covariance with something is c have posterior mean ``pull @ c`` and reduce its variance by
    ``c @ precision @ c``.
    """

    log_likelihood: float
    pull: Array  # (size,)
    precision: Array  # (size, size)
    noise_slope: float  # twice the derivative of the log likelihood by the variance of all white noise


def _log_prior(logs: Array, lengths: int) -> tuple[float, Array]:
    """The log prior density of the logarithms, and its gradient."""
    scaled = (logs[:lengths] - _LENGTH_CENTRE) / _LENGTH_SPREAD
    amplitude, sds = float(logs[lengths]), logs[lengths + 1 :] - _SD_CENTRE
    value = -0.5 * float(scaled @ scaled) - float(np.log(np.cosh(sds)).sum())
    value -= lengths * math.log(_LENGTH_SPREAD * math.sqrt(2 * math.pi)) + len(sds) * math.log(math.pi)
    flat_scaled = (amplitude - _FLAT_CENTRE) / _FLAT_SPREAD
    flat = _FLAT * math.exp(-0.5 * flat_scaled**2) / (_FLAT_SPREAD * math.sqrt(2 * math.pi))
    varied = (1 - _FLAT) / (math.pi * math.cosh(amplitude))
    slope = -(flat * flat_scaled / _FLAT_SPREAD + varied * math.tanh(amplitude)) / (flat + varied)
    gradient = np.concatenate([-scaled / _LENGTH_SPREAD, [slope], -np.tanh(sds)])
    return value + math.log(flat + varied), gradient


def _proposals(modes: Sequence[Array], spreads: Sequence[Array], lengths: int) -> tuple[Array, Array]:
    """Samples of the logarithms of the hyperparameters, and the log density that they were drawn from.

    The density is that of the mixture of all proposals, not of the one that a sample came from (the balance heuristic
    of Owen and Zhou 2000). So no weight exceeds the inverse of the prior's share.
    """
    from scipy.special import logsumexp
    from scipy.stats import chi2, multivariate_t, norm, qmc

    size = len(modes[0])
    uniform = qmc.Sobol(size + 1, seed=0).random(_SAMPLES)
    uniform = np.clip(uniform, 1e-9, 1 - 1e-9)
    from_prior = np.arange(_SAMPLES) % _PRIOR_SHARE == 0
    which = np.cumsum(~from_prior) % len(modes)
    samples = np.empty((_SAMPLES, size))
    samples[:, :lengths] = _LENGTH_CENTRE + _LENGTH_SPREAD * norm.ppf(uniform[:, :lengths])
    samples[:, lengths:] = np.log(np.tan(np.pi / 2 * uniform[:, lengths:size]))
    samples[:, lengths + 1 :] += _SD_CENTRE
    # The last coordinate decides here whether the function is constant; in the other proposals it is the stretch.
    flat = uniform[:, size] < _FLAT
    samples[flat, lengths] = _FLAT_CENTRE + _FLAT_SPREAD * norm.ppf(uniform[flat, lengths])
    shares = [1 / _PRIOR_SHARE, *[(1 - 1 / _PRIOR_SHARE) / len(modes)] * len(modes)]
    for index, (mode, spread) in enumerate(zip(modes, spreads, strict=True)):
        own = ~from_prior & (which == index)
        stretch = np.sqrt(_DEGREES / chi2.ppf(uniform[own, size], _DEGREES))
        samples[own] = mode + stretch[:, None] * (norm.ppf(uniform[own, :size]) @ cholesky(spread).T)
    densities = [np.array([_log_prior(sample, lengths)[0] for sample in samples])]
    densities += [
        multivariate_t(mode, spread, df=_DEGREES).logpdf(samples) for mode, spread in zip(modes, spreads, strict=True)
    ]
    return samples, logsumexp(densities, axis=0, b=np.array(shares)[:, None])


def _squares(first: Array, second: Array, dimensions: Indices) -> Array:
    """The squared distances between points for each parameter. Shape (parameters, first, second)."""
    squares = np.zeros((int(dimensions.max(initial=-1)) + 1, len(first), len(second)))
    for column, dimension in enumerate(dimensions):
        squares[dimension] += (first[:, None, column] - second[None, :, column]) ** 2
    return squares


def _matern(squares: Array, lengths: Array) -> Array:
    """The Matern 5/2 correlation (Eq. 4.17). Shape (n, m)."""
    distance = np.sqrt(5 * np.tensordot(1 / np.square(lengths), squares, axes=1))
    correlation: Array = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return correlation


def _matern_with_slope(squares: Array, lengths: Array) -> tuple[Array, Array]:
    """The correlation, and its derivative by log length, divided by that parameter's squared scaled distance."""
    distance = np.sqrt(5 * np.tensordot(1 / np.square(lengths), squares, axes=1))
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, 5 / 3 * (1 + distance) * decay
