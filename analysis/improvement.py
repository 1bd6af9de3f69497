"""The expected hypervolume improvement of a new point over a front that is known only with noise.

Daulton, Balandat, Bakshy 2021: Parallel Bayesian optimization of multiple noisy objectives with expected hypervolume
improvement. NeurIPS 34.
Yang, Emmerich, Deutz, Back 2019: Efficient computation of expected hypervolume improvement using box decomposition
algorithms. Journal of Global Optimization 75.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analysis.gaussian_process import Array
from analysis.mixture import GaussianMixture, cholesky
from analysis.pareto import is_nondominated


def noisy_improvement(
    objectives: Sequence[GaussianMixture],
    limits: Sequence[GaussianMixture],
    known: int,
    reference: Array,
    draws: int,
    generator: np.random.Generator,
) -> Array:
    """The expected hypervolume gain of each candidate, averaged over the unknown values of the known points (NEHVI).

    The values of the known points are drawn. Given a draw, the candidates' values are integrated in closed form, so
    even candidates with tiny gains can be ranked, without logarithms.

    Args:
        objectives: The joint distribution of each objective at the known points and then at the candidates; larger is
            better. Length k.
        limits: The same for the amount by which each constraint is missed; at 0 or below it is met. Constraints are
            taken as independent.
        known: The number of known points. The others are m candidates.
        reference: The hypervolume's reference point. Shape (k,).
        draws: The number of draws of the known points.
        generator: The random number generator.

    Returns:
        Shape (m,).

    Source:
        Daulton et al. 2021, with one new point at a time.
    """
    sampled = [_condition(each, known, draws, generator) for each in [*objectives, *limits]]
    k, gains = len(objectives), np.zeros(objectives[0].means.shape[1] - known)
    for draw in range(draws):
        values = np.stack([points[draw] for points, _, _ in sampled[:k]], axis=1)
        meets = np.ones(known, dtype=np.bool_)
        for points, _, _ in sampled[k:]:
            meets &= points[draw] <= 0
        means = np.stack([mean[draw] for _, mean, _ in sampled[:k]], axis=1)
        sds = np.stack([sd[draw] for _, _, sd in sampled[:k]], axis=1)
        gains += expected_improvement(values[meets], reference, means, sds)
    unit = np.eye(known + len(gains))[known:]
    for limit in limits:
        gains *= [limit.combination(contrast).below(0.0) for contrast in unit]
    return gains / draws


def expected_improvement(front: Array, reference: Array, means: Array, sds: Array) -> Array:
    """The expected gain in hypervolume of points whose objectives are independent and normal; larger is better.

    Args:
        front: Points whose values are known. Shape (n, k); n may be 0.
        reference: Shape (k,).
        means: Shape (m, k).
        sds: Shape (m, k).

    Returns:
        Shape (m,).

    Source:
        Yang et al. 2019: a sum over boxes of products over objectives.
    """
    lower, upper = boxes(front, reference)
    gains = np.ones((len(means), len(lower)))
    for objective in range(len(reference)):
        levels, at = np.unique(np.concatenate([lower[:, objective], upper[:, objective]]), return_inverse=True)
        excess = _expected_excess(means[:, [objective]], sds[:, [objective]], levels)
        gains *= excess[:, at[: len(lower)]] - excess[:, at[len(lower) :]]
    return np.asarray(gains.sum(axis=1))


def boxes(front: Array, reference: Array) -> tuple[Array, Array]:
    """Disjoint boxes that cover the region above the reference that the front does not dominate.

    The points divide all objectives but the last into a grid. Each box is a column over one cell of it: it begins at
    the highest point that dominates the cell, and has no upper end.

    Args:
        front: Shape (n, k), larger is better; n may be 0.
        reference: Shape (k,).

    Returns:
        The lower and the upper corners, shape (boxes, k) each; sides may be infinite.
    """
    points = front[(front > reference).all(axis=1)]
    points = points[is_nondominated(points, ["maximize"] * len(reference))] if len(points) else points
    edges = [
        np.array([reference[objective], *np.unique(points[:, objective]), np.inf])
        for objective in range(len(reference) - 1)
    ]
    lower = np.stack(np.meshgrid(*(edge[:-1] for edge in edges), indexing="ij"), axis=-1).reshape(-1, len(edges))
    upper = np.stack(np.meshgrid(*(edge[1:] for edge in edges), indexing="ij"), axis=-1).reshape(-1, len(edges))
    covers = (points[None, :, :-1] >= upper[:, None]).all(axis=2)
    heights = np.where(covers, points[:, -1], reference[-1]).max(axis=1, initial=float(reference[-1]))
    return np.column_stack([lower, heights]), np.column_stack([upper, np.full(len(upper), np.inf)])


def _expected_excess(mean: Array, sd: Array, level: Array) -> Array:
    """The mean of max(X - level, 0) for a normal X."""
    from scipy.special import ndtr

    sd = np.maximum(sd, 1e-12)
    scaled = np.maximum((mean - level) / sd, -40.0)  # the result is 0 there, and NaN at -inf
    density = np.exp(-0.5 * scaled**2) / np.sqrt(2 * np.pi)
    return np.asarray(sd * np.maximum(density + scaled * ndtr(scaled), 0.0))


def _condition(
    posterior: GaussianMixture, known: int, draws: int, generator: np.random.Generator
) -> tuple[Array, npt.NDArray[np.float64], Array]:
    """Draws of the known values, shape (draws, known), and the others' means and sds given each, (draws, others)."""
    from scipy.linalg import solve_triangular

    edges = np.cumsum(posterior.weights)[:-1]
    which = generator.permutation(np.searchsorted(edges, (np.arange(draws) + generator.uniform()) / draws))
    noise = generator.standard_normal((draws, known))
    values = np.empty((draws, known))
    means, sds = (np.empty((draws, posterior.means.shape[1] - known)) for _ in range(2))
    for component in np.unique(which):
        own = which == component
        mean, covariance = posterior.means[component], posterior.covariances[component]
        factor = cholesky(covariance[:known, :known])
        cross = solve_triangular(factor, covariance[:known, known:], lower=True, check_finite=False)
        values[own] = mean[:known] + noise[own] @ factor.T
        means[own] = mean[known:] + noise[own] @ cross
        left = np.diagonal(covariance)[known:] - np.square(cross).sum(axis=0)
        sds[own] = np.sqrt(np.maximum(left, 0.0))
    return values, means, sds
