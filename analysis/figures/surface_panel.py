"""What one picture of a surface shows, in the units in which it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.figures.style import COLOURS, Array, Scale, complete, hover_text, measure_label, scale_of, trial_label
from analysis.frames import rows_of
from analysis.surfaces import Slice, Surface, observation_noise, positions, surface
from trainables.settings.space import Domain, Range

BAND: Final = 2.0  # standard deviations


@dataclass(frozen=True)
class Baseline:
    """A baseline's height in a picture."""

    name: str
    value: float
    colour: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One measure over two parameters, in the unit that is shown. Positions are logarithms where a domain's are."""

    measure: str
    axes: Mapping[str, Range]  # the two parameters
    scale: Scale
    points: Array  # positions on the axes, (n, 2)
    values: Array  # (n,)
    low: Array  # (n,); the value itself without an interval
    high: Array
    typical: npt.NDArray[np.bool_]  # (n,); whether its categories are those that the surface is drawn for
    hover: Sequence[str]
    surface: Surface | None
    baselines: Sequence[Baseline]
    limits: tuple[float, float] = (0.0, 1.0)  # of the z-axis
    colours: tuple[float, float] = (0.0, 1.0)  # the values at the ends of the colour map

    @property
    def label(self) -> str:
        """The measure for people."""
        return measure_label(self.measure)

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

    def ranges(self) -> list[tuple[float, float]]:
        """The limits of the two parameters' axes, with a little room."""
        ends = []
        for along in self.points.T:
            room = 0.03 * float(np.ptp(along)) or 1e-3 * max(1.0, float(np.abs(along).max()))
            ends.append((float(along.min()) - room, float(along.max()) + room))
        return ends

    def beside(self, group: Sequence[Panel]) -> Panel:
        """This panel with the z-axis and the colour scale that a group, which it belongs to, shares."""
        low, high = min(each.extent()[0] for each in group), max(each.extent()[1] for each in group)
        room = 0.04 * (high - low) or 1e-3 * max(1.0, abs(high))
        low, high = low - room, high + room
        if self.scale.unit:
            low, high = max(low, 0.0), min(high, 100.0)
        heights = [each.surface.mean if each.surface is not None else each.values for each in group]
        colours = min(float(values.min()) for values in heights), max(float(values.max()) for values in heights)
        return replace(self, limits=(low, high), colours=colours)


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
    values, low, high = (
        scale.factor * search[f"{measure}{suffix}"].to_numpy(dtype=np.float64) for suffix in ("", "_low", "_high")
    )
    noise = observation_noise(search, measure)
    noise = None if noise is None else scale.factor**2 * noise
    ranges = {name: domain for name, domain in domains.items() if isinstance(domain, Range)}
    categories = {name: value for name, value in drawn.fixed.items() if name not in ranges}
    baselines = rows_of(complete(frame, "baseline"))
    return Panel(
        measure=measure,
        axes={name: ranges[name] for name in drawn.axes},
        scale=scale,
        points=positions(rows, drawn.axes, domains),
        values=values,
        low=np.where(np.isnan(low), values, low),
        high=np.where(np.isnan(high), values, high),
        typical=np.array([all(row[name] == value for name, value in categories.items()) for row in rows]),
        hover=[hover_text(row, domains, {measure: scale}) for row in rows],
        surface=surface(rows, values, noise, domains, drawn),
        baselines=[
            Baseline(
                name=trial_label(row, domains),
                value=scale.factor * row[measure],
                colour=COLOURS[i % len(COLOURS)],
                text=hover_text(row, domains, {measure: scale}),
            )
            for i, row in enumerate(baselines)
        ],
    )
