"""Plots that only the report uses: intervals, lines, bars, timelines, slices and parallel coordinates.

Each function returns a matplotlib figure with room for a headline, which `style.bare_svg` removes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, FAINT, GREY, HEADLINE, INK
from analysis.frames import tidied
from analysis.statistics import Interval
from trainables.settings.space import Domain, Range

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH: Final = 7.2  # inches
_MOST_LINES: Final = 300  # in parallel coordinates; more lines hide each other


@dataclass(frozen=True)
class Row:
    """A value with its interval, in the unit of the axis."""

    label: str
    value: float
    interval: Interval
    colour: str = BLUE
    hollow: bool = False
    before: float | None = None  # an earlier value of the same quantity, drawn as a small ring


@dataclass(frozen=True)
class Intervals:
    """One panel of `interval_figure`: rows from top to bottom.

    ``band`` is the half-width of a grey band around 0 for values too small to be of interest; it adds a line at 0.
    """

    title: str
    rows: Sequence[Row]
    band: float | None = None


def interval_figure(panels: Sequence[Intervals]) -> Figure:
    """Values with their 95 % intervals, panels side by side. The labels of the first panel apply to all."""
    most = max(len(panel.rows) for panel in panels)
    figure, grid = style.new_figure(_WIDTH, HEADLINE + 0.9 + 0.42 * most, 1, len(panels))
    for at, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        style.style_axes(axes)
        axes.grid(visible=False, axis="y")
        if panel.band is not None:
            axes.axvspan(-panel.band, panel.band, color=GREY, alpha=0.2, lw=0)
            axes.axvline(0, color=GREY, lw=1)
        for y, row in enumerate(panel.rows):
            low, high = np.nan_to_num([row.interval.low, row.interval.high], nan=row.value)
            axes.plot([low, high], [y, y], color=row.colour, lw=2.2, alpha=0.5, solid_capstyle="round")
            face = "white" if row.hollow else row.colour
            axes.plot([row.value], [y], "o", ms=8, mfc=face, mec=row.colour, mew=1.6)
            if row.before is not None:
                axes.plot([row.before], [y], "o", ms=7, mfc="none", mec=GREY, mew=1.4)
        axes.set_yticks(range(len(panel.rows)), [row.label if at == 0 else "" for row in panel.rows])
        axes.set(ylim=(most - 0.4, -0.6))
        axes.set_title(panel.title, fontsize=10, loc="left", color=INK)
    return figure


@dataclass(frozen=True)
class Line:
    """A curve with a band; accuracies in percent."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    baseline: bool


def line_figure(lines: Sequence[Line], x: str, y: str, mark: float, end: float) -> Figure:
    """Curves with their bands, for x from 0 to ``end``, and a vertical line at ``mark``."""
    figure, (axes,) = style.new_figure(_WIDTH, HEADLINE + 4.2)
    style.style_axes(axes)
    axes.axvline(mark, color=GREY, ls="--", lw=1)
    others = iter(np.tile(COLOURS, 1 + len(lines) // len(COLOURS)).tolist())
    blues = 0
    for line in lines:
        colour = next(others) if line.baseline or blues else BLUE
        blues += not line.baseline
        ls = "--" if line.baseline else "-"
        axes.plot(line.x, line.y, color=colour, ls=ls, lw=2.2, marker="o", ms=5, label=line.label)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.12, lw=0)
    axes.set(xlabel=x, ylabel=y, xlim=(0, end), ylim=(0, 101))
    style.add_legend(figure, axes.lines[1:], 9, most=2)
    return figure


def bar_figure(bars: Mapping[str, Mapping[str, float]], unit: str) -> Figure:
    """Stacked horizontal bars, one per group, with the group's parts by name."""
    parts = list(dict.fromkeys(name for group in bars.values() for name in group))
    figure, (axes,) = style.new_figure(_WIDTH, HEADLINE + 1.1 + 0.42 * len(bars))
    style.style_axes(axes)
    axes.grid(visible=False, axis="y")
    left = np.zeros(len(bars))
    for part, colour in zip(parts, [BLUE, *COLOURS] * len(parts), strict=False):
        widths = np.array([group.get(part, 0.0) for group in bars.values()])
        axes.barh(range(len(bars)), widths, 0.6, left=left, color=colour, label=part)
        left += widths
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel(unit)
    style.add_legend(figure, axes.get_legend_handles_labels()[0], 9)
    return figure


def timeline_figure(spans: pd.DataFrame) -> Figure:
    """Units over time. ``spans`` has one row per unit: ``start`` and ``stop`` in hours, and ``state``."""
    colours = {"complete": BLUE, "pruned": COLOURS[4], "failed": COLOURS[0], "running": GREY}
    figure, (axes,) = style.new_figure(_WIDTH, HEADLINE + 2.2)
    style.style_axes(axes)
    axes.grid(visible=False, axis="y")
    lanes: list[float] = []
    for start, stop, state in spans.sort_values("start")[["start", "stop", "state"]].itertuples(index=False):
        lane = next((at for at, free in enumerate(lanes) if free <= start), len(lanes))
        lanes[lane : lane + 1] = [stop]
        label = None if state in axes.get_legend_handles_labels()[1] else state
        axes.barh(lane, stop - start, 0.8, left=start, color=colours[state], ec="white", lw=0.3, label=label)
    axes.set_yticks([])
    axes.set(xlabel="Hours since the first unit started", ylabel="Concurrent units")
    style.add_legend(figure, axes.get_legend_handles_labels()[0], 9)
    return figure


def slice_figure(frame: pd.DataFrame, objectives: Sequence[str], domains: Mapping[str, Domain]) -> Figure:
    """Each objective against each parameter, for the complete settings of a table made by ``frames.to_frame``."""
    frame = tidied(frame, objectives)
    search = style.complete(frame, "search")
    height = HEADLINE + 0.4 + 2.3 * len(objectives)
    figure, grid = style.new_figure(max(_WIDTH, 2.6 * len(domains)), height, len(objectives), len(domains))
    for at, axes in enumerate(grid):
        name, (parameter, domain) = objectives[at // len(domains)], list(domains.items())[at % len(domains)]
        scale = style.scale_of(frame, name)
        known = search.dropna(subset=[parameter])
        values = scale.factor * known[name]
        bars = [values - scale.factor * known[f"{name}_low"], scale.factor * known[f"{name}_high"] - values]
        x = known[parameter] if isinstance(domain, Range) else known[parameter].astype(str)
        style.style_axes(axes)
        if at % len(domains):
            axes.sharey(grid[at - at % len(domains)])
        axes.errorbar(x, values, yerr=np.clip(np.nan_to_num(bars), 0, None), fmt="o", ms=4.5, color=BLUE, alpha=0.6)
        if isinstance(domain, Range) and domain.log:
            axes.set_xscale("log")
        if at // len(domains) == len(objectives) - 1:
            axes.set_xlabel(parameter)
        if at % len(domains) == 0:
            axes.set_ylabel(scale.label(name).replace(style.WORST_CASE, ""))
    return figure


def parallel_figure(
    frame: pd.DataFrame, objectives: Sequence[str], domains: Mapping[str, Domain], front: Sequence[str]
) -> Figure:
    """Parallel coordinates of the complete settings: parameters, then objectives; the front on top."""
    frame = tidied(frame, objectives)
    search = style.complete(frame, "search")
    search = search[search["number"].isin(front) | (search.index < _MOST_LINES)]
    names = [*domains, *objectives]
    figure, (axes,) = style.new_figure(max(_WIDTH, 1.5 * len(names)), HEADLINE + 3.6)
    columns = []
    for at, name in enumerate(names):
        scale = style.scale_of(frame, name) if name in objectives else style.Scale(1.0, "", ".4g")
        domain = domains.get(name)
        raw = search[name]
        if domain is not None and not isinstance(domain, Range):
            known = sorted(raw.dropna().astype(str).unique())
            values = raw.astype(str).map({text: float(place) for place, text in enumerate(known)}).to_numpy(float)
            ends = [known[0], known[-1]]
        else:
            values = raw.to_numpy(dtype=np.float64)
            ends = [scale.text(end) for end in (np.nanmin(values), np.nanmax(values))]
            values = np.log(values) if isinstance(domain, Range) and domain.log else values
        low, span = np.nanmin(values), np.ptp(values[np.isfinite(values)]) or 1.0
        columns.append((values - low) / span)
        axes.axvline(at, color=GREY, lw=1)
        for text, y, va in zip(ends, (-0.03, 1.03), ("top", "bottom"), strict=True):
            axes.text(at, y, text, ha="center", va=va, fontsize=8.5, color=FAINT)
    for number, line in zip(search["number"], np.stack(columns, axis=1), strict=True):
        best = number in front
        look: dict[str, Any] = {
            "color": BLUE if best else GREY,
            "lw": 2.2 if best else 0.9,
            "alpha": 1 if best else 0.5,
        }
        axes.plot(range(len(names)), line, zorder=2 + best, **look)
    labels = [
        style.measure_label(name).removesuffix(style.WORST_CASE) if name in objectives else name for name in names
    ]
    axes.set_xticks(range(len(names)), labels)
    axes.tick_params(length=0, colors=INK, labelsize=9, pad=14)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set(ylim=(-0.05, 1.05), xlim=(-0.3, len(names) - 0.7))
    return figure
