"""Mixtures of normal distributions: posteriors averaged over hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.statistics import Interval

Array = npt.NDArray[np.float64]

_COVERAGE: Final = 0.95
_BISECTIONS: Final = 60
_FARTHEST: Final = 10.0  # quantiles lie within so many standard deviations of a component's mean
_JITTER: Final = 1e-12  # relative to the largest variance; grows until a covariance can be factored


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of normal distributions of q values.

    Args:
        weights: Positive, their sum is 1. Shape (k,).
        means: Shape (k, q).
        covariances: Shape (k, q, q).
    """

    weights: Array
    means: Array
    covariances: Array

    @property
    def mean(self) -> Array:
        """The mean of each value. Shape (q,)."""
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> Array:
        """The covariance of the values, including the spread of the component means. Shape (q, q)."""
        deviations = self.means - self.mean
        within = np.tensordot(self.weights, self.covariances, axes=1)
        return np.asarray(within + (self.weights[:, None] * deviations).T @ deviations)

    def combination(self, contrast: npt.ArrayLike) -> Combination:
        """The distribution of a linear combination of the values. ``contrast``: shape (q,)."""
        c = np.asarray(contrast, dtype=np.float64)
        variances = np.maximum(np.einsum("i,kij,j->k", c, self.covariances, c), 0.0)
        return Combination(self.weights, self.means @ c, np.sqrt(variances))

    def draws(self, count: int, generator: np.random.Generator) -> Array:
        """``count`` draws of all values, in random order. Shape (count, q)."""
        edges = np.cumsum(self.weights)[:-1]
        # Evenly spaced, so that each component's count differs from its share by less than one.
        which = np.searchsorted(edges, (np.arange(count) + generator.uniform()) / count)
        drawn = [
            mean + generator.standard_normal((number, len(mean))) @ cholesky(covariance).T
            for mean, covariance, number in zip(
                self.means, self.covariances, np.bincount(which, minlength=len(self.weights)), strict=True
            )
            if number
        ]
        return generator.permutation(np.concatenate(drawn))


@dataclass(frozen=True)
class Combination:
    """A mixture of normal distributions of one value: weights, means and standard deviations, shape (k,) each."""

    weights: Array
    means: Array
    sds: Array

    @property
    def mean(self) -> float:
        """The mean."""
        return float(self.weights @ self.means)

    @property
    def sd(self) -> float:
        """The standard deviation."""
        return float(np.sqrt(self.weights @ (self.sds**2 + (self.means - self.mean) ** 2)))

    def below(self, value: float) -> float:
        """The probability of at most ``value``."""
        from scipy.special import ndtr

        deviations = value - self.means
        # A component without spread is a step function, with the value 1/2 at its mean.
        steps = np.where(deviations == 0, 0.0, np.copysign(np.inf, deviations))
        return float(self.weights @ ndtr(np.divide(deviations, self.sds, out=steps, where=self.sds > 0)))

    def quantile(self, share: float) -> float:
        """The value below which a ``share`` in (0, 1) of the distribution lies."""
        low = float((self.means - _FARTHEST * self.sds).min())
        high = float((self.means + _FARTHEST * self.sds).max())
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.below(middle) < share else (low, middle)
        return (low + high) / 2

    def interval(self) -> Interval:
        """The central interval that holds 95 %."""
        return Interval(self.quantile((1 - _COVERAGE) / 2), self.quantile((1 + _COVERAGE) / 2))


def cholesky(covariance: Array) -> Array:
    """The lower Cholesky factor of a covariance (q, q) that rounding may have left indefinite."""
    scale = float(np.max(np.diagonal(covariance), initial=0.0))
    assert np.isfinite(scale), scale
    if not scale > 0:
        return np.zeros_like(covariance)
    jitter = _JITTER
    while True:
        try:
            return np.asarray(
                np.linalg.cholesky(covariance + jitter * scale * np.eye(len(covariance))), dtype=np.float64
            )
        except np.linalg.LinAlgError:
            jitter *= 10
