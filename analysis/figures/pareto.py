"""The trials over their objectives, with the Pareto front."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.figures import style
from analysis.figures.style import (
    BASELINE_COLOURS,
    BLUE,
    GREY,
    HEADLINE,
    Array,
    Scale,
    complete,
    faded,
    headline,
    hover_text,
    left_out,
    legend_columns,
    measure_label,
    new_figure_grid,
    replicates_note,
    save_html,
    save_png,
    scale_of,
    sentences,
    setting_label,
    style_axes,
    title_page,
)
from analysis.frames import rows_of
from analysis.pareto import is_nondominated
from trainables.metrics import CLAIMED, ROBUST, Direction
from trainables.settings.space import Domain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS: Final = ("D", "s", "^", "v")  # of the baselines
_SYMBOLS: Final = ("diamond", "square", "triangle-up", "triangle-down")  # the same markers in plotly
_PANEL_COLUMNS: Final = 3  # three objectives have three pairs
_HEADING: Final = "Pareto-optimal settings"


def draw_pareto(
    frame: pd.DataFrame,
    objectives: Mapping[str, Direction],
    domains: Mapping[str, Domain],
    folder: Path,
    *,
    title: str,
) -> list[Path]:
    """Draws the trials over each pair of objectives. With two objectives, the front is a step line.

    Args:
        frame: A table made by ``frames.to_frame``. Complete trials are drawn; the number of others is given.
        objectives: The direction of each objective. The front is that of all of them, among the trials that meet the
            constraints if any does.
        domains: The searched parameters, which name a setting.
        folder: Where ``pareto.png`` and ``pareto.html`` go.
        title: What was measured: configuration, data set, attack, radius.

    Returns:
        The two files.

    Raises:
        ValueError: There are fewer than two objectives, or no complete trial.
    """
    if len(objectives) < 2:
        raise ValueError(f"objectives must name at least two, got {list(objectives)}; a front of one is its best trial")
    search, baselines = complete(frame, "search"), complete(frame, "baseline")
    if search.empty:
        raise ValueError(f"trials must hold a complete one, got {len(frame)} without; let one finish first")
    names = list(objectives)
    violation = search["violation"].to_numpy(dtype=np.float64)
    on_front = is_nondominated(search[names].to_numpy(dtype=np.float64), list(objectives.values()), violation)
    infeasible = violation > 0
    note = sentences(
        [
            "No setting meets the constraints: the nearest are marked." if infeasible.all() else "",
            "Pareto-optimal in all objectives together." if len(names) > 2 else "",
            "Bars: 95 % intervals of the front and the baselines.",
            replicates_note(frame),
            left_out(frame),
        ]
    )
    plots = [
        _Plot(
            search=search,
            baselines=baselines,
            on_front=on_front,
            infeasible=infeasible & ~on_front,
            objectives={name: objectives[name] for name in pair},
            whole=len(names) == 2,
            parameters=list(domains),
            scales=[scale_of(frame, name) for name in pair],
        )
        for pair in itertools.combinations(names, 2)
    ]
    return [
        save_png(_static(plots, title, note), folder / "pareto.png"),
        save_html(_interactive(plots, title), folder / "pareto.html", title=f"Pareto front, {title}", note=note),
    ]


def _static(plots: Sequence[_Plot], title: str, note: str) -> Figure:
    across = min(_PANEL_COLUMNS, len(plots))
    rows = -(-len(plots) // across)
    if len(plots) == 1:
        figure, grid = new_figure_grid(7.6, 5.2, 1, 1)
    else:
        figure, grid = new_figure_grid(4.6 * across, 0.6 + HEADLINE + 3.7 * rows, rows, across)
    for axes in grid[len(plots) :]:
        axes.set_visible(False)
    for plot, axes in zip(plots, grid, strict=False):
        plot.draw(axes)
    handles, labels = grid[0].get_legend_handles_labels()
    names = [str(label) for label in labels]
    columns = min(4, legend_columns(names, figure.get_figwidth(), 9))
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    headline(figure, _HEADING, title, note)
    figure.draw_without_rendering()
    for plot, axes in zip(plots, grid, strict=False):
        plot.number_front(axes)
    return figure


def _interactive(plots: Sequence[_Plot], title: str) -> Any:
    from plotly.subplots import make_subplots

    columns = min(_PANEL_COLUMNS, len(plots))
    page = make_subplots(rows=-(-len(plots) // columns), cols=columns)
    for i, plot in enumerate(plots):
        row, column = (position + 1 for position in divmod(i, columns))
        page.add_traces(plot.traces(legend=i == 0), rows=row, cols=column)
        page.update_xaxes(title=plot.axis_label(0), range=plot.limits(0), row=row, col=column)
        page.update_yaxes(title=plot.axis_label(1), range=plot.limits(1), row=row, col=column)
    title_page(page, _HEADING, title)
    page.update_layout(legend={"orientation": "h", "y": -0.15})
    return page


@dataclass(frozen=True)
class _Plot:
    """The trials over two objectives; ``whole`` if there are no others."""

    search: pd.DataFrame
    baselines: pd.DataFrame
    on_front: npt.NDArray[np.bool_]
    infeasible: npt.NDArray[np.bool_]
    objectives: Mapping[str, Direction]
    whole: bool
    parameters: Sequence[str]
    scales: Sequence[Scale]

    @property
    def names(self) -> list[str]:
        return list(self.objectives)

    def named_baselines(self) -> list[tuple[str, pd.DataFrame]]:
        """Each baseline's label and row."""
        return [
            (f"{row['number']}: {setting_label(row, self.parameters)}", self.baselines.iloc[[i]])
            for i, row in enumerate(rows_of(self.baselines))
        ]

    def claims(self) -> list[tuple[Array, Array]]:
        """For every setting that an audit lowered: x and y of the claimed and the audited point. Shape (2,) each."""
        if CLAIMED not in self.search.columns or ROBUST not in self.names:
            return []
        both = pd.concat([self.search, self.baselines], ignore_index=True)
        axis = self.names.index(ROBUST)
        rows = both[both[CLAIMED] > both[ROBUST]]
        holds = [self.bars(rows, 0)[0], self.bars(rows, 1)[0]]
        claimed = list(holds)
        claimed[axis] = self.scales[axis].factor * rows[CLAIMED].to_numpy(dtype=np.float64)
        ends = np.stack([claimed, holds], axis=-1)  # (axis, setting, end)
        return [(ends[0, row], ends[1, row]) for row in range(len(rows))]

    def step(self) -> tuple[Array, Array, Literal["pre", "post"]]:
        """The boundary of the region that the front dominates, as a step line from point to point."""
        points = self.search.loc[self.on_front, self.names].to_numpy(dtype=np.float64)
        points = np.unique(points, axis=0) * [scale.factor for scale in self.scales]
        # Between two points of the front, what is best in y at that x is the next point where x is maximised.
        where: Literal["pre", "post"] = "pre" if self.objectives[self.names[0]] == "maximize" else "post"
        return points[:, 0], points[:, 1], where

    def bars(self, rows: pd.DataFrame, axis: int) -> tuple[Array, Array]:
        """Values, and the lengths of their intervals below and above. Shapes (n,) and (2, n)."""
        name, factor = self.names[axis], self.scales[axis].factor
        value, low, high = (
            factor * rows[column].to_numpy(dtype=np.float64) for column in (name, f"{name}_low", f"{name}_high")
        )
        return value, np.maximum(np.nan_to_num(np.stack([value - low, high - value])), 0.0)

    def axis_label(self, axis: int) -> str:
        unit = f" ({self.scales[axis].unit.strip()})" if self.scales[axis].unit else ""
        return f"{measure_label(self.names[axis])}{unit}"

    def limits(self, axis: int) -> tuple[float, float]:
        """The axis limits: all points, with room for half the longest bar."""
        both = pd.concat([self.search, self.baselines], ignore_index=True)
        value, error = self.bars(both, axis)
        value = np.concatenate([value, *(claim[axis] for claim in self.claims())])
        room = max(0.12 * float(np.ptp(value)), 0.5 * float(error.max()), 1e-6 * max(1.0, float(np.abs(value).max())))
        return float(value.min()) - room, float(value.max()) + room

    def draw(self, axes: Axes) -> None:
        style_axes(axes)
        for rows, colour, marker, label in (
            (self.search[~self.on_front & ~self.infeasible], GREY, "o", "dominated"),
            (self.search[self.infeasible], GREY, "X", "misses a constraint"),
        ):
            if not rows.empty:
                x, y = self.bars(rows, 0)[0], self.bars(rows, 1)[0]
                axes.scatter(x, y, s=30, color=colour, marker=marker, edgecolor="white", lw=0.8, label=label, zorder=3)
        for k, (x, y) in enumerate(self.claims()):
            axes.plot(x, y, color=GREY, lw=0.8, ls=":", zorder=2)
            name = "claimed before the audit" if k == 0 else None
            axes.scatter(x[:1], y[:1], s=40, facecolor="none", edgecolor=GREY, lw=1.0, label=name, zorder=3)
        self._marks(axes, self.search[self.on_front], BLUE, "o", "Pareto-optimal", 4)
        if self.whole:
            x, y, where = self.step()
            axes.step(x, y, where=where, color=BLUE, lw=1.6, alpha=0.8, zorder=4)
        for k, (label, rows) in enumerate(self.named_baselines()):
            k %= len(BASELINE_COLOURS)
            self._marks(axes, rows, BASELINE_COLOURS[k], _MARKERS[k], label, 6)
        axes.set_xlim(*self.limits(0))
        axes.set_ylim(*self.limits(1))
        axes.set_xlabel(self.axis_label(0))
        axes.set_ylabel(self.axis_label(1))

    def _marks(self, axes: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str, order: int) -> None:
        (x, x_error), (y, y_error) = self.bars(rows, 0), self.bars(rows, 1)
        axes.errorbar(x, y, xerr=x_error, yerr=y_error, fmt="none", ecolor=colour, alpha=0.3, lw=1.0, zorder=order)
        axes.scatter(x, y, s=60, marker=marker, color=colour, edgecolor="white", lw=0.9, label=label, zorder=order + 1)

    def number_front(self, axes: Axes) -> None:
        """Writes the numbers of the front's points where there is room; the exported table has all of them."""
        from matplotlib.transforms import Bbox

        everything = pd.concat([self.search, self.baselines], ignore_index=True)
        xy = np.stack([self.bars(everything, 0)[0], self.bars(everything, 1)[0]], axis=1)
        half = 5 * style.DOTS_PER_INCH / 72
        taken = [Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half) for x, y in axes.transData.transform(xy)]
        inside = axes.get_window_extent()
        front = self.search[self.on_front]
        for number, x, y in zip(front["number"], self.bars(front, 0)[0], self.bars(front, 1)[0], strict=True):
            for offset, ha, va in (
                ((6, 6), "left", "bottom"),
                ((6, -6), "left", "top"),
                ((-6, 6), "right", "bottom"),
                ((-6, -6), "right", "top"),
            ):
                text = axes.annotate(
                    f"#{number}",
                    (x, y),
                    offset,
                    textcoords="offset points",
                    ha=ha,
                    va=va,
                    fontsize=8.5,
                    color=BLUE,
                    zorder=8,
                )
                box = text.get_window_extent()
                if inside.fully_containsx(box.x1) and box.y1 < inside.y1 and not box.count_overlaps(taken):
                    taken.append(box)
                    break
                text.remove()

    def traces(self, *, legend: bool) -> list[Any]:
        """The same for plotly; ``legend`` says whether the legend shows these traces."""
        import plotly.graph_objects as go

        traces = []
        if self.whole:
            x, y, where = self.step()
            shape = "vh" if where == "pre" else "hv"
            line = {"color": BLUE, "width": 2, "shape": shape}
            traces.append(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
        for k, (x, y) in enumerate(self.claims()):
            traces.append(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines+markers",
                    name="claimed before the audit",
                    legendgroup="claimed",
                    showlegend=legend and k == 0,
                    line={"color": GREY, "width": 1, "dash": "dot"},
                    marker={"color": GREY, "symbol": ["circle-open", "circle"], "size": [9, 1]},
                    hoverinfo="skip",
                )
            )
        groups = [
            ("dominated", self.search[~self.on_front & ~self.infeasible], GREY, "circle", 8),
            ("misses a constraint", self.search[self.infeasible], GREY, "x", 8),
            ("Pareto-optimal", self.search[self.on_front], BLUE, "circle", 12),
        ]
        for k, (label, rows) in enumerate(self.named_baselines()):
            k %= len(BASELINE_COLOURS)
            groups.append((html.escape(label), rows, BASELINE_COLOURS[k], _SYMBOLS[k], 12))
        return traces + [self._points(*group, legend=legend) for group in groups if not group[1].empty]

    def _points(self, label: str, rows: pd.DataFrame, colour: str, symbol: str, size: int, *, legend: bool) -> Any:
        import plotly.graph_objects as go

        (x, x_error), (y, y_error) = self.bars(rows, 0), self.bars(rows, 1)
        bar = {
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "width": 0,
            "color": faded(colour, 0.4),
            "visible": colour != GREY,
        }
        return go.Scatter(
            x=x,
            y=y,
            mode="markers",
            name=label,
            legendgroup=label,
            showlegend=legend,
            marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": "white", "width": 1}},
            error_x={**bar, "array": x_error[1], "arrayminus": x_error[0]},
            error_y={**bar, "array": y_error[1], "arrayminus": y_error[0]},
            text=[hover_text(row, self.parameters, self.names, self.scales) for row in rows_of(rows)],
            hovertemplate="%{text}<extra></extra>",
        )
