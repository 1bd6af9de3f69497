"""A Gaussian process over parameters of any kind, averaged over its hyperparameters.

Rasmussen, Williams 2006: Gaussian Processes for Machine Learning. MIT Press.
Garrido-Merchan, Hernandez-Lobato 2020: Dealing with categorical and integer-valued variables in Bayesian optimization
with Gaussian processes. Neurocomputing 380.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trainables.settings.space import Domain, Range, Value

Array = npt.NDArray[np.float64]
Lengths = tuple[float, ...]

# The hyperparameters to average over, all equally likely a priori. Length scales are in ranges of the parameter (from a
# quarter to "a straight line"), amplitudes and variances in standard deviations and variances of the measured values.
_LENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
_AMPLITUDES: Final = (0.5, 1.5, 4.0)
_WHITE_VARIANCES: Final = (0.001, 0.05, 0.2, 0.8)
_LEVEL_VARIANCE: Final = 4.0
_NEGLIGIBLE: Final = 1e-3  # weight of a set of hyperparameters, relative to the best one's
_FULL_LATTICE: Final = 3  # dimensions up to which every combination of length scales is tried
_SWEEPS: Final = 3  # of the coordinate-wise search beyond that


class Encoder:
    """Turns parameters into coordinates, in units of the range that the measured values span.

    A number has one coordinate: itself, or its logarithm where the domain is logarithmic. A category has one coordinate
    per value that occurs: 1 / sqrt(2) for its own, 0 for the others, so that two different categories are at distance 1
    as the two ends of a range are. With one length scale per parameter this is the indicator kernel of Garrido-Merchan
    and Hernandez-Lobato 2020. Integers are taken as numbers; round a node before encoding it.

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
    """A number on the scale in which its domain is even: its decimal logarithm where the domain is logarithmic."""
    return math.log10(value) if domain.log else float(value)


def values_at(coordinates: npt.ArrayLike, domain: Range) -> Array:
    """The numbers at coordinates: the inverse of ``coordinate``."""
    at = np.asarray(coordinates, dtype=np.float64)
    return np.power(10.0, at) if domain.log else at


@dataclass(frozen=True)
class _Hyperparameters:
    lengths: Lengths
    amplitude: float
    white: float
    log_likelihood: float


class GaussianProcess:
    """A Gaussian process that was fitted to measurements.

    Its covariance is a free level, an anisotropic Matern 5/2 and white noise for what ``noise`` does not hold (the
    training seed, where each setting has one). The hyperparameters are averaged over a lattice by their marginal
    likelihood, and not set to its maximum: with a couple of dozen settings the maximum often makes a parameter
    irrelevant, and a band around that fit misses the truth where the average does not. Beyond three parameters the
    lattice is too large; the average is then over its nodes near the maximum, found coordinate by coordinate.

    Args:
        points: Where it was measured, in coordinates of order 1 (see ``Encoder``). Shape (n, d).
        values: What was measured there, in any unit. Shape (n,).
        noise: Variance of each value. Shape (n,); None if unknown. Settings measured on the same images share part of
            it. It is taken as independent: the fit is then cautious about the shape, and its standard deviation leaves
            out a shift of the whole surface that other images would bring.
        dimensions: The parameter that each column belongs to, shape (d,); columns of one parameter share a length
            scale. By default each column is a parameter.

    Source:
        Rasmussen and Williams 2006, Eq. 2.25, 2.26 and 2.30, section 2.7 (the level) and Eq. 5.3 and 5.4 (the average).
    """

    def __init__(
        self, points: Array, values: Array, noise: Array | None = None, dimensions: Sequence[int] | None = None
    ) -> None:
        variance = np.zeros(len(values)) if noise is None else noise
        self._dimensions = np.arange(points.shape[1]) if dimensions is None else np.array(dimensions)
        self._centre = float(values.mean())
        # Values that are all equal still need a unit: that of their noise, or any.
        self._scale = float(np.sqrt(values.var() + variance.mean())) or 1.0
        self._points = points
        self._values = (values - self._centre) / self._scale
        self._noise = variance / self._scale**2
        self._squares = self._squared_distances(points)
        tried = [candidate for lengths in self._explored() for candidate in lengths]
        best = max(candidate.log_likelihood for candidate in tried)
        weighted = [(math.exp(candidate.log_likelihood - best), candidate) for candidate in tried]
        self._mixture = [(weight, candidate) for weight, candidate in weighted if weight >= _NEGLIGIBLE]

    def predict(self, nodes: Array) -> tuple[Array, Array]:
        """The noise-free function at nodes (m, d): mean (m,) and standard deviation (m,), in the values' unit."""
        total, first, second = 0.0, np.zeros(len(nodes)), np.zeros(len(nodes))
        squares = self._squared_distances(nodes)
        for lengths, mixture in itertools.groupby(self._mixture, key=lambda pair: pair[1].lengths):
            among, across = _matern(self._squares, lengths), _matern(squares, lengths)
            for weight, theta in mixture:
                shape = theta.amplitude**2
                covariance = _LEVEL_VARIANCE + shape * among + np.diag(self._noise + theta.white)
                cross = _LEVEL_VARIANCE + shape * across
                solved = np.linalg.solve(covariance, cross)
                mean = self._values @ solved
                variance = _LEVEL_VARIANCE + shape - np.sum(cross * solved, axis=0)
                total += weight
                first += weight * mean
                second += weight * (mean**2 + np.maximum(variance, 0.0))
        mean = first / total
        sd = np.sqrt(np.maximum(second / total - mean**2, 0.0))
        return self._centre + self._scale * mean, self._scale * sd

    def _explored(self) -> Iterator[list[_Hyperparameters]]:
        """Every set of hyperparameters to average over, a list for each combination of length scales."""
        parameters = len(self._squares)
        if parameters <= _FULL_LATTICE:
            for lengths in itertools.product(_LENGTHS, repeat=parameters):
                yield self._evaluate(lengths)
            return
        visited: dict[Lengths, list[_Hyperparameters]] = {}
        here: Lengths = (1.0,) * parameters
        for _ in range(_SWEEPS):
            before = here
            for axis in range(parameters):
                line = [(*here[:axis], length, *here[axis + 1 :]) for length in _LENGTHS]
                for lengths in line:
                    if lengths not in visited:
                        visited[lengths] = self._evaluate(lengths)
                here = max(line, key=lambda lengths: max(theta.log_likelihood for theta in visited[lengths]))
            if here == before:
                break
        yield from visited.values()

    def _evaluate(self, lengths: Lengths) -> list[_Hyperparameters]:
        """The marginal likelihood of these length scales with each amplitude and white noise."""
        amplitudes, whites = (axis.ravel() for axis in np.meshgrid(_AMPLITUDES, _WHITE_VARIANCES))
        covariance = _LEVEL_VARIANCE + amplitudes[:, None, None] ** 2 * _matern(self._squares, lengths)
        covariance += (self._noise + whites[:, None])[:, :, None] * np.eye(len(self._points))
        targets = np.broadcast_to(self._values[:, None], (len(whites), len(self._values), 1))
        weights = np.linalg.solve(covariance, targets)[..., 0]
        log_likelihood = -0.5 * (weights @ self._values + np.linalg.slogdet(covariance).logabsdet)
        return [
            _Hyperparameters(lengths, *theta)
            for theta in zip(amplitudes.tolist(), whites.tolist(), log_likelihood.tolist(), strict=True)
        ]

    def _squared_distances(self, nodes: Array) -> Array:
        """Between the points and the nodes, for each parameter. Shape (parameters, n, m)."""
        squares = np.zeros((int(self._dimensions.max()) + 1, len(self._points), len(nodes)))
        for column, dimension in enumerate(self._dimensions):
            squares[dimension] += (self._points[:, None, column] - nodes[None, :, column]) ** 2
        return squares


def _matern(squares: Array, lengths: Lengths) -> Array:
    """The Matern 5/2 correlation (Eq. 4.17). Shape (n, m)."""
    distance = np.sqrt(5 * np.tensordot(1 / np.square(lengths), squares, axes=1))
    correlation: Array = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return correlation
