"""What one picture of a surface shows, in the units in which it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.figures.style import (
    BASELINE_COLOURS,
    Array,
    Scale,
    complete,
    hover_text,
    measure_label,
    scale_of,
    setting_label,
)
from analysis.frames import rows_of
from analysis.surfaces import Slice, Surface, coordinates, fit_slice, observation_noise, surface
from trainables.metrics import is_under_attack
from trainables.settings.space import Domain, Range

BAND: Final = 2.0  # standard deviations


@dataclass(frozen=True)
class Axis:
    """A numeric parameter on an axis. Positions are logarithms where its domain is logarithmic."""

    name: str
    log: bool = False
    integer: bool = False

    def shown(self, positions: npt.ArrayLike) -> Array:
        """The parameter's values at positions."""
        at = np.asarray(positions, dtype=np.float64)
        return np.power(10.0, at) if self.log else at


@dataclass(frozen=True)
class Baseline:
    """A baseline's height in a picture."""

    name: str
    value: float
    colour: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One measure over two parameters, in the unit that is shown."""

    measure: str
    axes: tuple[Axis, Axis]
    scale: Scale
    points: Array  # positions on the axes, (n, 2)
    values: Array  # (n,)
    low: Array  # (n,); the value itself without an interval
    high: Array
    typical: npt.NDArray[np.bool_]  # (n,); whether its categories are those that the surface is drawn for
    hover: tuple[str, ...]
    surface: Surface | None
    baselines: tuple[Baseline, ...]
    limits: tuple[float, float] = (0.0, 1.0)  # of the z-axis
    colours: tuple[float, float] = (0.0, 1.0)  # the values at the ends of the colour map

    @property
    def label(self) -> str:
        """The measure for people."""
        return measure_label(self.measure)

    @property
    def axis_label(self) -> str:
        """The label of the z-axis."""
        return f"{self.label} ({self.scale.unit.strip()})" if self.scale.unit else self.label

    def band(self) -> tuple[Array, Array] | None:
        """The fit's lower and upper surface; fractions stay in [0, 100] %."""
        if self.surface is None or self.surface.sd is None:
            return None
        edges = [self.surface.mean + sign * BAND * self.surface.sd for sign in (-1.0, 1.0)]
        low, high = (np.clip(edge, 0.0, 100.0) if self.scale.unit else edge for edge in edges)
        return low, high

    def extent(self) -> tuple[float, float]:
        """The lowest and highest of all that is drawn."""
        parts = [self.low, self.high, np.array([baseline.value for baseline in self.baselines])]
        if self.surface is not None:
            parts.extend(self.band() or (self.surface.mean,))
        everything = np.concatenate([part.ravel() for part in parts])
        return float(everything.min()), float(everything.max())

    def ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The limits of the two parameters' axes, with a little room."""
        first, second = (margins(self.points[:, axis]) for axis in (0, 1))
        return first, second


def panel_of(
    frame: pd.DataFrame, search: pd.DataFrame, domains: Mapping[str, Domain], drawn: Slice, measure: str
) -> Panel:
    """The panel of a measure.

    Args:
        frame: A table made by ``frames.to_frame``.
        search: Its complete trials that have every parameter.
        domains: All parameters.
        drawn: The two parameters to draw, and the values of the others.
        measure: The measure.
    """
    scale = scale_of(frame, measure)
    rows = rows_of(search)
    points = coordinates(rows, drawn.axes, domains)
    values, low, high = (
        scale.factor * search[column].to_numpy(dtype=np.float64)
        for column in (measure, f"{measure}_low", f"{measure}_high")
    )
    noise = observation_noise(search, measure)
    noise = None if noise is None else scale.factor**2 * noise
    categories = {name: value for name, value in drawn.fixed.items() if not isinstance(domains[name], Range)}
    return Panel(
        measure=measure,
        axes=(_axis(drawn.axes[0], domains), _axis(drawn.axes[1], domains)),
        scale=scale,
        points=points,
        values=values,
        low=np.where(np.isnan(low), values, low),
        high=np.where(np.isnan(high), values, high),
        typical=np.array([all(row[name] == value for name, value in categories.items()) for row in rows]),
        hover=tuple(hover_text(row, domains, [measure], [scale]) for row in rows),
        surface=fit_slice(rows, values, noise, domains, drawn) if drawn.fixed else surface(points, values, noise),
        baselines=_baselines(frame, domains, measure, scale),
    )


def comparable(panels: Sequence[Panel]) -> list[Panel]:
    """Gives the worst case and the attacks one z-axis and one colour scale, every other measure its own."""
    shared = [panel for panel in panels if is_under_attack(panel.measure)]
    result = []
    for panel in panels:
        group = shared if panel in shared else [panel]
        low, high = min(each.extent()[0] for each in group), max(each.extent()[1] for each in group)
        room = 0.04 * (high - low) or 1e-3 * max(1.0, abs(high))
        low, high = low - room, high + room
        if panel.scale.unit:
            low, high = max(low, 0.0), min(high, 100.0)
        heights = [each.surface.mean if each.surface is not None else each.values for each in group]
        colours = min(float(values.min()) for values in heights), max(float(values.max()) for values in heights)
        result.append(replace(panel, limits=(low, high), colours=colours))
    return result


def margins(positions: Array) -> tuple[float, float]:
    """The limits of an axis over positions, with a little room."""
    room = 0.03 * float(np.ptp(positions)) or 1e-3 * max(1.0, float(np.abs(positions).max()))
    return float(positions.min()) - room, float(positions.max()) + room


def _axis(name: str, domains: Mapping[str, Domain]) -> Axis:
    domain = domains[name]
    assert isinstance(domain, Range), name
    return Axis(name, log=domain.log, integer=domain.integer)


def _baselines(frame: pd.DataFrame, domains: Mapping[str, Domain], measure: str, scale: Scale) -> tuple[Baseline, ...]:
    rows = rows_of(complete(frame, "baseline"))
    return tuple(
        Baseline(
            name=f"{row['number']}: {setting_label(row, domains)}",
            value=scale.factor * row[measure],
            colour=BASELINE_COLOURS[i % len(BASELINE_COLOURS)],
            text=hover_text(row, domains, [measure], [scale]),
        )
        for i, row in enumerate(rows)
    )
