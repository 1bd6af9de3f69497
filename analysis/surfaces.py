"""A measured quantity over two parameters: the exact grid where there is one, else a fit that knows its uncertainty.

Rasmussen, Williams 2006: Gaussian Processes for Machine Learning. MIT Press.
"""

from __future__ import annotations

import warnings
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
    ``noise`` does not hold (the training seed, where each setting has one). Length scales are those of the largest
    marginal likelihood, so that a parameter that does nothing ends with a long one and a flat surface.

    Args:
        points: Where it was measured, not all equal in either coordinate. Shape (n, 2).
        values: What was measured there. Shape (n,).
        noise: Variance of each value. Shape (n,); None if unknown. Settings that were measured on the same images share
            part of it: the fit, which takes it as independent, is then cautious about the shape, and its band leaves
            out a shift of the whole surface that other images would bring.

    Returns:
        Mean and standard deviation of the noise-free surface on ``RESOLUTION`` x ``RESOLUTION`` points.

    Source:
        Rasmussen and Williams 2006, Algorithm 2.1 and section 2.7 (the level); computed by scikit-learn.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    low, span = points.min(axis=0), np.ptp(points, axis=0)
    noise = np.zeros(len(values)) if noise is None else noise
    centre = float(values.mean())
    scale = max(float(values.std()), float(np.sqrt(noise.mean()))) or 1.0

    level = ConstantKernel(4.0, "fixed")
    shape = ConstantKernel(0.5, (1e-2, 1e1)) * Matern([0.5, 0.5], (0.15, 10.0), nu=2.5)
    kernel = level + shape + WhiteKernel(0.1, (1e-4, 1e1))
    process = GaussianProcessRegressor(
        kernel, alpha=noise / scale**2 + 1e-10, n_restarts_optimizer=2, random_state=np.random.RandomState(0)
    )
    x, y = (np.linspace(low[axis], low[axis] + span[axis], RESOLUTION) for axis in (0, 1))
    unit = np.linspace(0.0, 1.0, RESOLUTION)
    nodes = np.stack(np.meshgrid(unit, unit), axis=-1).reshape(-1, 2)
    with warnings.catch_warnings():
        # A length scale or a noise at its bound is an answer here ("flat", "none"), not an accident.
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit((points - low) / span, (values - centre) / scale)
        mean, sd = process.predict(nodes, return_std=True)
    white = float(process.kernel_.k2.noise_level)
    sd = np.sqrt(np.maximum(sd**2 - white, 0.0))
    shape_of_grid = (RESOLUTION, RESOLUTION)
    return Surface(x, y, (centre + scale * mean).reshape(shape_of_grid), (scale * sd).reshape(shape_of_grid))


def observation_noise(frame: pd.DataFrame, measure: str) -> Array | None:
    """The variance of each row's value of a measure.

    Args:
        frame: Complete trials of a table of ``records.to_frame``.
        measure: One of its ``records.measures``.

    Returns:
        Shape (rows,). With replicates: their sample variance over their number, pooled over the rows since each has
        few. Else, for a fraction of images: the binomial variance with Agresti and Coull's two added successes and
        failures, so that no fraction is certain. Else None.
    """
    replicates = frame[[name for name in frame.columns if name.startswith(f"{measure}[")]].to_numpy(dtype=np.float64)
    if replicates.shape[1] >= 2:
        return np.full(len(frame), float(replicates.var(axis=1, ddof=1).mean()) / replicates.shape[1])
    images = images_of(frame, measure)
    if images is None:
        return None
    n = images.to_numpy()
    fraction = (frame[measure].to_numpy(dtype=np.float64) * n + 2) / (n + 4)
    return fraction * (1 - fraction) / (n + 4)


def _levels(coordinates: Array) -> Array:
    values, counts = np.unique(coordinates, return_counts=True)
    return values[counts >= 2]
