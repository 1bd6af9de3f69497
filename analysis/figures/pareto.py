"""The trials over their objectives, with the Pareto front."""

from __future__ import annotations

import html
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, GREY, HEADLINE, Array, Picture, Scale
from analysis.frames import rows_of, tidied
from analysis.pareto import front_mask
from trainables.metrics import CLAIMED, ROBUST, Direction
from trainables.settings.space import Domain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BASELINE_MARKERS: Final = "Ds^v"
_SYMBOLS: Final = {  # plotly's name of each of matplotlib's markers
    "o": "circle",
    "X": "x",
    "D": "diamond",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
}
_MOVES: Final = {  # the markers, for matplotlib and plotly, of where points were before
    "claimed before the audit": ("o", "circle-open"),
    "in the search": ("s", "square-open"),
}
_PANEL_COLUMNS: Final = 3  # three objectives have three pairs


@dataclass(frozen=True)
class Chosen:
    """A front that rests on other values than those drawn.

    Args:
        front: The numbers of its trials.
        searched: The search's rows of the trials that are drawn with confirmed values.
    """

    front: Collection[str]
    searched: pd.DataFrame


@dataclass(frozen=True)
class _Group:
    """Trials that are drawn alike; grey ones are small and without intervals."""

    label: str
    rows: pd.DataFrame
    colour: str
    marker: str


def pareto_picture(
    frame: pd.DataFrame,
    objectives: Mapping[str, Direction],
    domains: Mapping[str, Domain],
    *,
    title: str,
    chosen: Chosen | None = None,
) -> Picture:
    """The trials over each pair of objectives. With two objectives, the front is a step line.

    Complete trials are drawn; the number of others is given. The front is that of all objectives, among the trials that
    meet the constraints if any does. If it was ``chosen`` by other values than those drawn, there is no line.

    Raises:
        ValueError: There are fewer than two objectives, or no complete trial.
    """
    if len(objectives) < 2:
        raise ValueError(f"objectives must name at least two, got {list(objectives)}; a front of one is its best trial")
    frame = tidied(frame, objectives)
    search, baselines = style.complete(frame, "search"), style.complete(frame, "baseline")
    if search.empty:
        raise ValueError(f"trials must hold a complete one, got {len(frame)} without; let one finish first")
    values, violation = search[list(objectives)].to_numpy(dtype=np.float64), search["violation"].to_numpy(np.float64)
    audited = search["verdict"].notna().to_numpy() & (ROBUST in objectives)
    on_front = front_mask(values, list(objectives.values()), violation, audited)
    proven = on_front & (audited | ~audited.any())
    if chosen is not None:
        proven = on_front = search["number"].isin(chosen.front).to_numpy()
    infeasible = violation > 0
    groups = [
        _Group("dominated", search[~on_front & ~infeasible], GREY, "o"),
        _Group("misses a constraint", search[~on_front & infeasible], GREY, "X"),
        _Group("Pareto-optimal as claimed", search[on_front & ~proven], BLUE, "D"),
        _Group("Pareto-optimal", search[proven], BLUE, "o"),
    ]
    for i, row in enumerate(rows_of(baselines)):
        colour, marker = (looks[i % len(looks)] for looks in (COLOURS, _BASELINE_MARKERS))
        groups.append(_Group(style.trial_label(row, domains), baselines.iloc[[i]], colour, marker))
    panels = [
        _Panel(
            groups=[group for group in groups if not group.rows.empty],
            front=search[proven],
            everything=pd.concat([search, baselines], ignore_index=True),
            searched=None if chosen is None else chosen.searched,
            objectives={name: objectives[name] for name in pair},
            whole=len(objectives) == 2 and chosen is None,
            parameters=list(domains),
            scales={name: style.scale_of(frame, name) for name in pair},
        )
        for pair in itertools.combinations(objectives, 2)
    ]
    note = style.sentences(
        "No setting meets the constraints: the nearest are marked." if infeasible.all() else "",
        "Pareto-optimal in all objectives together." if len(objectives) > 2 else "",
        "Bars: 95 % intervals of the front and the baselines.",
        f"Confirmed with new seeds and images: {', '.join(chosen.searched['number'])}."
        if chosen is not None and len(chosen.searched)
        else "",
        style.coverage(frame),
    )
    heading = "Pareto-optimal settings"
    return Picture(_static(panels), _interactive(panels), heading, title, note)


def _static(panels: Sequence[_Panel]) -> Figure:
    columns = min(_PANEL_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = (7.6, 5.2) if len(panels) == 1 else (4.6 * columns, 0.6 + HEADLINE + 3.7 * rows)
    figure, grid = style.new_figure(width, height, rows, columns)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for panel, axes in zip(panels, grid, strict=False):
        panel.draw(axes)
    style.add_legend(figure, grid[0].get_legend_handles_labels()[0], 9, most=4)
    figure.draw_without_rendering()  # places the panels, so that the numbers know where there is room
    for panel, axes in zip(panels, grid, strict=False):
        panel.number_front(axes)
    return figure


def _interactive(panels: Sequence[_Panel]) -> Any:
    from plotly.subplots import make_subplots

    columns = min(_PANEL_COLUMNS, len(panels))
    page = make_subplots(rows=-(-len(panels) // columns), cols=columns)
    for i, panel in enumerate(panels):
        row, column = (position + 1 for position in divmod(i, columns))
        page.add_traces(panel.traces(legend=i == 0), rows=row, cols=column)
        (x, x_limits), (y, y_limits) = zip(panel.labels, panel.limits(), strict=True)
        page.update_xaxes(title=x, range=x_limits, row=row, col=column)
        page.update_yaxes(title=y, range=y_limits, row=row, col=column)
    page.update_layout(legend={"orientation": "h", "y": -0.15})
    return page


@dataclass(frozen=True)
class _Panel:
    """The trials over two objectives; ``whole`` if there are no others."""

    groups: Sequence[_Group]
    front: pd.DataFrame
    everything: pd.DataFrame
    searched: pd.DataFrame | None
    objectives: Mapping[str, Direction]
    whole: bool
    parameters: Sequence[str]
    scales: Mapping[str, Scale]

    @property
    def labels(self) -> list[str]:
        return [scale.label(name) for name, scale in self.scales.items()]

    def values(self, rows: pd.DataFrame, suffix: str = "") -> Array:
        """The two objectives as they are shown, or another column of each. Shape (2, n)."""
        columns = [scale.factor * rows[name + suffix].to_numpy(np.float64) for name, scale in self.scales.items()]
        return np.stack(columns)

    def bars(self, rows: pd.DataFrame) -> Array:
        """The lengths of the intervals below and above the values. Shape (objective, side, n)."""
        values = self.values(rows)
        below, above = values - self.values(rows, "_low"), self.values(rows, "_high") - values
        return np.maximum(np.nan_to_num(np.stack([below, above], axis=1)), 0.0)

    def moves(self) -> dict[str, Array]:
        """Where points were before they moved to where they are drawn, by reason. Shape (setting, objective, end)."""
        moved = {}
        if CLAIMED in self.everything.columns and ROBUST in self.objectives:
            rows = self.everything[self.everything[CLAIMED] > self.everything[ROBUST]]
            moved["claimed before the audit"] = self._move(rows.assign(**{ROBUST: rows[CLAIMED]}), rows)
        if self.searched is not None and len(self.searched):
            rows = self.everything.set_index("number").loc[self.searched["number"]]
            moved["in the search"] = self._move(self.searched, rows)
        return moved

    def _move(self, before: pd.DataFrame, after: pd.DataFrame) -> Array:
        return np.stack([self.values(before), self.values(after)], axis=-1).transpose(1, 0, 2)

    def step(self) -> tuple[Array, Array, Literal["pre", "post"]]:
        """The boundary of the region that the front dominates, as a step line from point to point."""
        x, y = np.unique(self.values(self.front), axis=1)
        # Between two points of the front, what is best in y at that x is the next point where x is maximised.
        direction = next(iter(self.objectives.values()))
        return x, y, "pre" if direction == "maximize" else "post"

    def limits(self) -> list[tuple[float, float]]:
        """The limits of the two axes: all points, with room for half the longest bar."""
        moves = [each.transpose(1, 0, 2).reshape(2, -1) for each in self.moves().values()]
        points = np.concatenate([self.values(self.everything), *moves], axis=1)
        longest = self.bars(self.everything).max(axis=(1, 2))
        room = np.max([0.12 * np.ptp(points, axis=1), 0.5 * longest, 1e-6 * np.abs(points).max(axis=1, initial=1.0)], 0)
        return list(zip((points.min(axis=1) - room).tolist(), (points.max(axis=1) + room).tolist(), strict=True))

    def draw(self, axes: Axes) -> None:
        style.style_axes(axes)
        for group in self.groups:
            if group.colour == GREY:
                self._scatter(axes, group, s=30, lw=0.8, zorder=3)
        for reason, moves in self.moves().items():
            for i, (x, y) in enumerate(moves):
                axes.plot(x, y, color=GREY, lw=0.8, ls=":", zorder=2)
                look: dict[str, Any] = {"facecolor": "none", "edgecolor": GREY, "lw": 1.0, "zorder": 3}
                label = reason if i == 0 else None
                axes.scatter(x[:1], y[:1], s=40, marker=_MOVES[reason][0], label=label, **look)
        for group in self.groups:
            if group.colour != GREY:
                order = 4 if group.colour == BLUE else 6
                (x, y), (x_bar, y_bar) = self.values(group.rows), self.bars(group.rows)
                bars: dict[str, Any] = {"fmt": "none", "ecolor": group.colour, "alpha": 0.3, "lw": 1.0}
                axes.errorbar(x, y, xerr=x_bar, yerr=y_bar, zorder=order, **bars)
                self._scatter(axes, group, s=60, lw=0.9, zorder=order + 1)
        if self.whole:
            x, y, where = self.step()
            axes.step(x, y, where=where, color=BLUE, lw=1.6, alpha=0.8, zorder=4)
        (x_label, y_label), (x_limits, y_limits) = self.labels, self.limits()
        axes.set(xlim=x_limits, ylim=y_limits, xlabel=x_label, ylabel=y_label)

    def _scatter(self, axes: Axes, group: _Group, **look: Any) -> None:
        x, y = self.values(group.rows)
        axes.scatter(x, y, marker=group.marker, color=group.colour, edgecolor="white", label=group.label, **look)

    def number_front(self, axes: Axes) -> None:
        """Writes the numbers of the front's points where there is room; the exported table has all of them."""
        from matplotlib.transforms import Bbox

        half = 5 * style.DOTS_PER_INCH / 72
        points = axes.transData.transform(self.values(self.everything).T)
        taken = [Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half) for x, y in points]
        inside = axes.get_window_extent()
        for number, x, y in zip(self.front["number"], *self.values(self.front), strict=True):
            for right, up in ((6, 6), (6, -6), (-6, 6), (-6, -6)):
                text = axes.annotate(
                    f"#{number}",
                    (x, y),
                    (right, up),
                    textcoords="offset points",
                    ha="left" if right > 0 else "right",
                    va="bottom" if up > 0 else "top",
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

        traces: list[Any] = []
        if self.whole:
            x, y, where = self.step()
            line = {"color": BLUE, "width": 2, "shape": "vh" if where == "pre" else "hv"}
            traces.append(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
        for reason, moves in self.moves().items():
            traces += [
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines+markers",
                    name=reason,
                    legendgroup=reason,
                    showlegend=legend and i == 0,
                    line={"color": GREY, "width": 1, "dash": "dot"},
                    marker={"color": GREY, "symbol": [_MOVES[reason][1], "circle"], "size": [9, 1]},
                    hoverinfo="skip",
                )
                for i, (x, y) in enumerate(moves)
            ]
        return traces + [self._points(group, legend=legend) for group in self.groups]

    def _points(self, group: _Group, *, legend: bool) -> Any:
        import plotly.graph_objects as go

        (x, y), (x_bar, y_bar) = self.values(group.rows), self.bars(group.rows)
        bar = {
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "width": 0,
            "color": style.faded(group.colour, 0.4),
            "visible": group.colour != GREY,
        }
        return go.Scatter(
            x=x,
            y=y,
            mode="markers",
            name=html.escape(group.label),
            legendgroup=html.escape(group.label),
            showlegend=legend,
            marker={
                "color": group.colour,
                "symbol": _SYMBOLS[group.marker],
                "size": 8 if group.colour == GREY else 12,
                "line": {"color": "white", "width": 1},
            },
            error_x={**bar, "array": x_bar[1], "arrayminus": x_bar[0]},
            error_y={**bar, "array": y_bar[1], "arrayminus": y_bar[0]},
            text=[style.hover_text(row, self.parameters, self.scales) for row in rows_of(group.rows)],
            hovertemplate="%{text}<extra></extra>",
        )
