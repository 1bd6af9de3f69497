"""A measured quantity over two parameters: the exact grid where there is one, else a fit that knows its uncertainty.

Rasmussen, Williams 2006: Gaussian Processes for Machine Learning. MIT Press.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.records import images_of

Array = npt.NDArray[np.float64]

FEWEST_FOR_A_FIT: Final = 6
RESOLUTION: Final = 31
_GRID_SHARE: Final = 0.75

# The hyperparameters that a fit averages over, all equally likely at first: length scales in ranges of the parameter
# (from a quarter to "a straight line"), standard deviations and variances in those of the measured values.
_LENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
_AMPLITUDES: Final = (0.5, 1.5, 4.0)
_WHITE_VARIANCES: Final = (0.001, 0.05, 0.2, 0.8)
_LEVEL_VARIANCE: Final = 4.0
_NEGLIGIBLE: Final = 1e-3


@dataclass(frozen=True)
class Surface:
    """Values over a grid of two parameters.

    Args:
        x: Ascending values of the first parameter. Shape (nx,).
        y: Ascending values of the second parameter. Shape (ny,).
        mean: The surface. Shape (ny, nx).
        sd: Standard deviation of the fitted mean, without the noise of a single measurement. Shape (ny, nx); None if
            the surface is measured and not fitted.
    """

    x: Array
    y: Array
    mean: Array
    sd: Array | None

    @property
    def fitted(self) -> bool:
        """Whether this is a fit."""
        return self.sd is not None

    def at(self, points: Array) -> Array:
        """The surface's bilinear height at points, NaN outside its grid. Shapes (n, 2) and (n,)."""
        column, row = (
            np.clip(np.searchsorted(axis, coordinate, side="right") - 1, 0, len(axis) - 2)
            for axis, coordinate in zip((self.x, self.y), points.T, strict=True)
        )
        across = (points[:, 0] - self.x[column]) / (self.x[column + 1] - self.x[column])
        along = (points[:, 1] - self.y[row]) / (self.y[row + 1] - self.y[row])
        near = (1 - across) * self.mean[row, column] + across * self.mean[row, column + 1]
        far = (1 - across) * self.mean[row + 1, column] + across * self.mean[row + 1, column + 1]
        # A point on the edge may lie outside by a rounding error.
        inside = np.all(np.abs(np.stack([across, along]) - 0.5) <= 0.5 + 1e-9, axis=0)
        return np.where(inside, (1 - along) * near + along * far, np.nan)


def surface(points: Array, values: Array, noise: Array | None = None) -> Surface | None:
    """The surface through or near measurements, whichever they allow.

    Args:
        points: Where it was measured. Shape (n, 2).
        values: What was measured there. Shape (n,).
        noise: Variance of each value. Shape (n,); None if unknown.

    Returns:
        ``exact_grid`` if there is one, else ``fit``; None with fewer than ``FEWEST_FOR_A_FIT`` points or where all have
        the same value of one parameter.
    """
    grid = exact_grid(points, values)
    if grid is not None:
        return grid
    if len(points) < FEWEST_FOR_A_FIT or bool(np.any(np.ptp(points, axis=0) == 0)):
        return None
    return fit(points, values, noise)


def exact_grid(points: Array, values: Array) -> Surface | None:
    """The product grid that the points form, if they form one.

    A few points beside the grid are allowed (a search tries the reference setting first, wherever its grid lies): a
    level of the grid is a coordinate that occurs twice or more, and the grid must hold most of the points.

    Args:
        points: Where it was measured. Shape (n, 2).
        values: What was measured there. Shape (n,). Values at the same point are averaged.

    Returns:
        The measured surface without a fit, or None if the points are scattered or a cell of the grid is missing.
    """
    xs, ys = (_levels(points[:, axis]) for axis in (0, 1))
    if len(xs) < 2 or len(ys) < 2:
        return None
    column, row = np.searchsorted(xs, points[:, 0]), np.searchsorted(ys, points[:, 1])
    on_grid = np.isin(points[:, 0], xs) & np.isin(points[:, 1], ys)
    if on_grid.mean() < _GRID_SHARE:
        return None
    total, count = np.zeros((len(ys), len(xs))), np.zeros((len(ys), len(xs)))
    np.add.at(total, (row[on_grid], column[on_grid]), values[on_grid])
    np.add.at(count, (row[on_grid], column[on_grid]), 1)
    return Surface(xs, ys, total / count, None) if count.all() else None


def fit(points: Array, values: Array, noise: Array | None = None) -> Surface:
    """A Gaussian process over the box that the points span; it never extrapolates.

    Its covariance is a free level, an anisotropic Matern 5/2 over inputs scaled to [0, 1], and white noise for what
    ``noise`` does not hold (the training seed, where each setting has one). The hyperparameters are averaged over a
    lattice by their marginal likelihood, and not set to its maximum: with a couple of dozen settings the maximum often
    makes a parameter irrelevant, and a band around that surface misses the truth where the average does not.

    Args:
        points: Where it was measured, not all equal in either coordinate. Shape (n, 2).
        values: What was measured there. Shape (n,).
        noise: Variance of each value. Shape (n,); None if unknown. Settings that were measured on the same images share
            part of it: the fit, which takes it as independent, is then cautious about the shape, and its band leaves
            out a shift of the whole surface that other images would bring.

    Returns:
        Mean and standard deviation of the noise-free surface on ``RESOLUTION`` x ``RESOLUTION`` points.

    Source:
        Rasmussen and Williams 2006, Eq. 2.25, 2.26 and 2.30, section 2.7 (the level) and Eq. 5.3 and 5.4 (the average).
    """
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    variance = np.zeros(len(values)) if noise is None else noise
    centre = float(values.mean())
    # Values that are all equal still need a unit: their noise's, or any.
    scale = float(np.sqrt(values.var() + variance.mean())) or 1.0
    unit = np.linspace(0.0, 1.0, RESOLUTION)
    nodes = np.stack(np.meshgrid(unit, unit), axis=-1).reshape(-1, 2)
    mean, sd = _average_process((points - low) / span, (values - centre) / scale, variance / scale**2, nodes)
    x, y = (low[axis] + span[axis] * unit for axis in (0, 1))
    grid = (RESOLUTION, RESOLUTION)
    return Surface(x, y, (centre + scale * mean).reshape(grid), (scale * sd).reshape(grid))


def _average_process(points: Array, values: Array, noise: Array, nodes: Array) -> tuple[Array, Array]:
    """Mean and standard deviation at the nodes, shape (nodes,) each; inputs in [0, 1]^2, values of unit scale."""
    candidates: list[tuple[float, tuple[float, float], float, float]] = []
    amplitudes, whites = (axis.ravel() for axis in np.meshgrid(_AMPLITUDES, _WHITE_VARIANCES))
    for lengths in itertools.product(_LENGTHS, _LENGTHS):
        shape = _matern(points, points, lengths)
        covariance = _LEVEL_VARIANCE + amplitudes[:, None, None] ** 2 * shape
        covariance += (noise + whites[:, None])[:, :, None] * np.eye(len(points))
        weights = np.linalg.solve(covariance, np.broadcast_to(values[:, None], (len(whites), len(values), 1)))[..., 0]
        log_likelihood = -0.5 * (weights @ values + np.linalg.slogdet(covariance).logabsdet)
        candidates += zip(log_likelihood.tolist(), [lengths] * len(whites), amplitudes, whites, strict=True)

    best = max(log_likelihood for log_likelihood, *_ in candidates)
    total, first, second = 0.0, np.zeros(len(nodes)), np.zeros(len(nodes))
    for log_likelihood, lengths, amplitude, white in candidates:
        weight = float(np.exp(log_likelihood - best))
        if weight < _NEGLIGIBLE:
            continue
        covariance = _LEVEL_VARIANCE + amplitude**2 * _matern(points, points, lengths) + np.diag(noise + white)
        cross = _LEVEL_VARIANCE + amplitude**2 * _matern(points, nodes, lengths)
        mean = values @ np.linalg.solve(covariance, cross)
        variance = _LEVEL_VARIANCE + amplitude**2 - np.sum(cross * np.linalg.solve(covariance, cross), axis=0)
        total += weight
        first += weight * mean
        second += weight * (mean**2 + np.maximum(variance, 0.0))
    mean = first / total
    return mean, np.sqrt(np.maximum(second / total - mean**2, 0.0))


def _matern(first: Array, second: Array, lengths: tuple[float, float]) -> Array:
    """The Matern 5/2 correlation (Rasmussen and Williams 2006, Eq. 4.17). Shape (first, second)."""
    distance = np.sqrt(5 * np.sum(((first[:, None] - second[None]) / lengths) ** 2, axis=-1))
    correlation: Array = (1 + distance + distance**2 / 3) * np.exp(-distance)
    return correlation


def observation_noise(frame: pd.DataFrame, measure: str) -> Array | None:
    """The variance of each row's value of a measure.

    Args:
        frame: Complete trials of a table of ``records.to_frame``.
        measure: One of its ``records.measures``.

    Returns:
        Shape (rows,). With replicates: their sample variance, pooled over the rows since each has few, over a row's own
        number of them. Else, for a fraction of images: the binomial variance with Agresti and Coull's two added
        successes and failures, so that no fraction is certain. Else None.
    """
    replicates = frame[[name for name in frame.columns if name.startswith(f"{measure}[")]].to_numpy(dtype=np.float64)
    counts = np.isfinite(replicates).sum(axis=1)
    if (counts >= 2).any():
        squares = (replicates - np.nansum(replicates, axis=1, keepdims=True) / counts[:, None]) ** 2
        pooled = float(np.nansum(squares)) / float((counts - 1).sum())
        return np.asarray(pooled / counts, dtype=np.float64)
    images = images_of(frame, measure)
    if images is None:
        return None
    n = images.to_numpy()
    fraction = (frame[measure].to_numpy(dtype=np.float64) * n + 2) / (n + 4)
    return fraction * (1 - fraction) / (n + 4)


def _levels(coordinates: Array) -> Array:
    values, counts = np.unique(coordinates, return_counts=True)
    return values[counts >= 2]
