"""A measured quantity over two parameters: the exact grid if there is one, else a fit that knows its uncertainty."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.frames import images_of
from analysis.gaussian_process import Array, Encoder, GaussianProcess, coordinate
from analysis.records import value_text
from trainables.settings.space import Domain, Range, Value

if TYPE_CHECKING:
    import pandas as pd

FEWEST_FOR_A_FIT: Final = 6
BAND: Final = 2.0  # standard deviations above and below a fit
RESOLUTION: Final = 31
_GRID_SHARE: Final = 0.75
_EFFECT_LEVELS: Final = 7  # values of a parameter at which its effect is measured
_EFFECT_ROWS: Final = 100  # settings that an effect is averaged over, at most

Rows = Sequence[Mapping[str, Any]]  # measured settings, each with a value for every parameter


@dataclass(frozen=True)
class Surface:
    """Values over a grid of two parameters."""

    x: Array  # ascending positions (see ``coordinate``) of the first parameter, (nx,)
    y: Array  # of the second parameter, (ny,)
    mean: Array  # the surface, (ny, nx)
    # Standard deviation of the fitted mean, without the noise of a single measurement, (ny, nx); None if not fitted.
    sd: Array | None

    @property
    def fitted(self) -> bool:
        return self.sd is not None

    def at(self, points: Array) -> Array:
        """The surface's bilinear height at points, NaN outside its grid. Shapes (n, 2) and (n,)."""
        from scipy.interpolate import RegularGridInterpolator

        ends = np.array([[self.x[0], self.y[0]], [self.x[-1], self.y[-1]]])
        # A point on the edge may lie outside by a rounding error.
        near = np.clip(points, *ends)
        inside = np.all(np.abs(points - near) <= 1e-9 * np.ptp(ends, axis=0), axis=1)
        heights = RegularGridInterpolator((self.x, self.y), self.mean.T)(near)
        return np.where(inside, heights, np.nan)


@dataclass(frozen=True)
class Slice:
    """Which two parameters are drawn, and where the others stand."""

    axes: Mapping[str, Range]  # the domains of the two numeric parameters
    fixed: Mapping[str, Value]  # the value of every other parameter
    chosen: bool = False  # whether the two were chosen among several by their importance

    def note(self) -> str:
        """A sentence on the choice and the fixed values; empty if there are only these two parameters."""
        if not self.fixed:
            return ""
        why = f"{' and '.join(self.axes)} matter most. " if self.chosen else ""
        values = ", ".join(f"{name}={value_text(value)}" for name, value in self.fixed.items())
        return f"{why}Fixed at the front's median (most common category): {values}."


def plan_slice(rows: Rows, front: Rows, values: Sequence[Array], domains: Mapping[str, Domain]) -> Slice | str:
    """Chooses the two parameters to draw.

    The importance of a parameter is the variance of its effect: the mean of a Gaussian process over all parameters is
    averaged over the measured settings while this parameter takes several values across its range. Each objective
    counts as much as the others. Interactions do not count.

    Args:
        rows: The settings.
        front: Those that are on the front.
        values: For each objective, what was measured. Shape (rows,) each.
        domains: All parameters. Ranges are numeric, choices are categories.

    Returns:
        The slice, or one line that says why there is none.
    """
    numeric = {name: domain for name, domain in domains.items() if isinstance(domain, Range)}
    if len(numeric) < 2:
        return f"No surfaces: they need two numeric parameters, the space has {len(numeric)}."
    if not rows:
        return "No surfaces: no trial that has every parameter is complete."
    if len(domains) > 2 and len(rows) < FEWEST_FOR_A_FIT:
        return f"No surfaces: {len(domains)} parameters need at least {FEWEST_FOR_A_FIT} settings, got {len(rows)}."
    varied = [name for name in numeric if _varies(rows, name)]
    names = varied if len(varied) >= 2 else list(numeric)
    if len(names) > 2:
        importance = sum(effects(rows, objective, domains, names) for objective in values)
        axes = {names[i]: numeric[names[i]] for i in sorted(np.argsort(-importance, kind="stable")[:2])}
    else:
        axes = {name: numeric[name] for name in names}
    fixed = {name: _typical([row[name] for row in front], domains[name]) for name in domains if name not in axes}
    return Slice(axes, fixed, chosen=len(names) > 2)


def effects(rows: Rows, values: Array, domains: Mapping[str, Domain], names: Sequence[str]) -> Array:
    """The importance of numeric parameters for one measure, as shares of their sum (0 if nothing has an effect)."""
    encoder = Encoder(rows, domains)
    points = encoder.encode(rows)
    process = GaussianProcess(points, values, dimensions=encoder.dimensions)
    others = points[:: -(-len(points) // _EFFECT_ROWS)]
    variances = []
    for name in names:
        nodes = np.tile(others, (_EFFECT_LEVELS, 1))
        nodes[:, encoder.column(name)] = np.repeat(np.linspace(0.0, 1.0, _EFFECT_LEVELS), len(others))
        variances.append(float(process.predict(nodes)[0].reshape(_EFFECT_LEVELS, -1).mean(axis=1).var()))
    return np.array(variances) / (sum(variances) or 1.0)


def surface(
    rows: Rows, values: Array, noise: Array | None, domains: Mapping[str, Domain], drawn: Slice
) -> Surface | None:
    """The surface through or near measurements, over two parameters.

    Args:
        rows: The settings.
        values: What was measured. Shape (rows,).
        noise: Variance of each value. Shape (rows,); None if unknown.
        domains: All parameters.
        drawn: The two to draw and the values of the others.

    Returns:
        ``exact_grid`` if there are only two parameters and their values form one. Else a Gaussian process over all
        parameters, along the two: the mean and standard deviation of the noise-free surface at ``RESOLUTION`` x
        ``RESOLUTION`` positions within the measured range, beyond which it is not extrapolated. None with fewer than
        ``FEWEST_FOR_A_FIT`` rows, or if one of the two does not vary.
    """
    grid = None if drawn.fixed else exact_grid(positions(rows, drawn.axes), values)
    if grid is not None:
        return grid
    if len(rows) < FEWEST_FOR_A_FIT or not all(_varies(rows, name) for name in drawn.axes):
        return None
    encoder = Encoder(rows, domains)
    process = GaussianProcess(encoder.encode(rows), values, noise, encoder.dimensions)
    unit = np.linspace(0.0, 1.0, RESOLUTION)
    # One encoded row, whose two coordinates then run over the grid.
    nodes = np.repeat(encoder.encode([{**rows[0], **drawn.fixed}]), RESOLUTION**2, axis=0)
    for name, coordinates in zip(drawn.axes, np.meshgrid(unit, unit), strict=True):
        nodes[:, encoder.column(name)] = coordinates.ravel()
    mean, sd = process.predict(nodes)
    x, y = (encoder.positions(name, unit) for name in drawn.axes)
    return Surface(x, y, mean.reshape(RESOLUTION, RESOLUTION), sd.reshape(RESOLUTION, RESOLUTION))


def exact_grid(points: Array, values: Array) -> Surface | None:
    """The values (n,) on the product grid that the points (n, 2) form; values at the same point are averaged.

    A few points beside the grid are allowed (a search tries the reference setting first, wherever its grid lies): a
    level of the grid is a coordinate that occurs at least twice, and the grid must hold most of the points.

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


def observation_noise(frame: pd.DataFrame, measure: str) -> Array | None:
    """The variance of each row's value of a measure, for complete trials in a table made by ``frames.to_frame``.

    Returns:
        Shape (rows,). With replicates: their sample variance, pooled over the rows since each has few, divided by the
        row's number of replicates. Else, for a fraction of images: the binomial variance with Agresti and Coull's two
        added successes and failures, so that no fraction is certain. Else None.
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


def positions(rows: Rows, axes: Mapping[str, Range]) -> Array:
    """Two numeric parameters of settings on their axes: see ``coordinate``. Shape (rows, 2)."""
    return np.array([[coordinate(row[name], domain) for name, domain in axes.items()] for row in rows])


def _varies(rows: Rows, name: str) -> bool:
    return len({row[name] for row in rows}) > 1


def _typical(values: Sequence[Any], domain: Domain) -> Value:
    """The median of numbers, which is one of them, or the most common category."""
    typical: Value = statistics.median_low(values) if isinstance(domain, Range) else statistics.mode(values)
    return typical


def _levels(coordinates: Array) -> Array:
    values, counts = np.unique(coordinates, return_counts=True)
    return values[counts >= 2]
