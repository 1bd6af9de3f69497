"""Pictures of a run: the front, the learning curves, the growing hypervolume. A PNG and an offline HTML page each.

Matplotlib is used through ``Figure`` alone, so that nothing here needs a display or touches global state. Colours are
those of Okabe and Ito, which people with any colour vision can tell apart.
"""

from __future__ import annotations

import html
import io
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.pareto import Direction, is_nondominated
from analysis.records import (
    ATTACK_SEPARATOR,
    CLAIMED,
    RADIUS_SEPARATOR,
    WORST_CASE,
    WORST_VIEW,
    images_of,
    is_under_attack,
)
from trainables import files as atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

BLUE: Final = "#0072B2"
GREY: Final = "#8A9099"
INK: Final = "#222831"
FAINT: Final = "#5B6470"
RULE: Final = "#E3E6EA"
BASELINE_COLOURS: Final = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
BASELINE_MARKERS: Final = ("D", "s", "^", "v")
BASELINE_SYMBOLS: Final = ("diamond", "square", "triangle-up", "triangle-down")  # the same markers in plotly
DOTS_PER_INCH: Final = 150
HEADLINE: Final = 0.9  # inches: a heading, a title, two lines of a note
CHARACTERS_AN_INCH: Final = 17  # of the note
_PANEL_COLUMNS: Final = 3  # three objectives have three pairs


@dataclass(frozen=True)
class Scale:
    """How the values of a measure are shown: fractions of images in percent, everything else as it is."""

    factor: float
    unit: str
    style: str

    def text(self, value: float) -> str:
        """A value for people."""
        return f"{self.factor * value:{self.style}}{self.unit}"


def scale_of(frame: pd.DataFrame, measure: str) -> Scale:
    """The scale of a measured column of a table of ``records.to_frame``."""
    return Scale(1.0, "", ".4g") if images_of(frame, measure) is None else Scale(100.0, " %", ".1f")


def measure_label(measure: str) -> str:
    """A measure's name for people, e.g. ``pgd50-ce, normalized logits`` for ``pgd50-ce/normalized``."""
    if ATTACK_SEPARATOR in measure:
        attack, view = measure.rsplit(ATTACK_SEPARATOR, 1)
        return f"{attack}, worst view" if view == WORST_VIEW else f"{attack}, {view} logits"
    if is_under_attack(measure):
        _, _, radius = measure.partition(RADIUS_SEPARATOR)
        return "Robust accuracy, worst case" + (f" within {radius}" if radius else "")
    return measure.replace("_", " ").capitalize()


def complete(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The complete trials of a kind (``search`` or ``baseline``) of a table of ``records.to_frame``."""
    return frame[(frame["kind"] == kind) & (frame["state"] == "complete")].reset_index(drop=True)


def left_out(frame: pd.DataFrame) -> str:
    """A sentence on the trials that a picture leaves out; empty if there are none."""
    counts = [(state, int((frame["state"] == state).sum())) for state in ("pruned", "failed", "running")]
    parts = [f"{count} {state}" for state, count in counts if count]
    return f"Not shown: {', '.join(parts)}." if parts else ""


def replicates_note(frame: pd.DataFrame) -> str:
    """A sentence on how many replicates the values of complete trials rest on; empty if each rests on as many."""
    counts = frame.loc[frame["state"] == "complete", "replicates"].dropna()
    if counts.nunique() < 2:
        return ""
    few, many = int(counts.min()), int(counts.max())
    return f"Means over {few} to {many} replicates: {int((counts == many).sum())} of {len(counts)} over {many}."


def setting_label(row: Mapping[Any, Any], parameters: Sequence[str]) -> str:
    """A setting for people, e.g. ``i-sce s=1, m=0``; parameters that it does not have are left out."""
    values = ", ".join(f"{name}={row[name]:.4g}" for name in parameters if not math.isnan(row[name]))
    return f"{row['loss']} {values}".rstrip()


def draw_pareto(
    frame: pd.DataFrame,
    objectives: Mapping[str, Direction],
    parameters: Sequence[str],
    folder: Path,
    *,
    title: str,
) -> list[Path]:
    """Draws the trials over each pair of objectives; of two objectives alone, with the front as a step line.

    Args:
        frame: A table of ``records.to_frame``. Complete trials are drawn; how many others there are is said.
        objectives: The direction of each objective; the front is that of all of them, and of the trials that meet the
            constraints if one does.
        parameters: Columns to name a setting by.
        folder: Where ``pareto.png`` and ``pareto.html`` go.
        title: What was measured: configuration, data set, attack, radius.

    Returns:
        The two files.

    Raises:
        ValueError: Fewer than two objectives, or no complete trial.
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
    none = "No setting meets the constraints: the nearest are marked." if infeasible.all() else ""
    pairs = "Pareto-optimal in all objectives together." if len(names) > 2 else ""
    bars = "Bars: 95 % intervals of the front and the baselines."
    note = " ".join(filter(None, [none, pairs, bars, replicates_note(frame), left_out(frame)]))
    plots = [
        _ParetoPlot(
            search=search,
            baselines=baselines,
            on_front=on_front,
            infeasible=infeasible & ~on_front,
            objectives={name: objectives[name] for name in pair},
            whole=len(names) == 2,
            parameters=parameters,
            scales=[scale_of(frame, name) for name in pair],
        )
        for pair in itertools.combinations(names, 2)
    ]
    return [
        save_png(_static_panels(plots, title, note), folder / "pareto.png"),
        save_html(_interactive_panels(plots, title), folder / "pareto.html", title=f"Pareto front, {title}", note=note),
    ]


def _static_panels(plots: Sequence[_ParetoPlot], title: str, note: str) -> Figure:
    columns = min(_PANEL_COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    if len(plots) == 1:
        figure, grid = new_figure_grid(7.6, 5.2, 1, 1)
    else:
        figure, grid = new_figure_grid(4.6 * columns, 0.6 + HEADLINE + 3.7 * rows, rows, columns)
    for axes in grid[len(plots) :]:
        axes.set_visible(False)
    for plot, axes in zip(plots, grid, strict=False):
        plot.draw(axes)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    headline(figure, "Pareto-optimal settings", title, note)
    figure.draw_without_rendering()
    for plot, axes in zip(plots, grid, strict=False):
        plot.number_front(axes)
    return figure


def _interactive_panels(plots: Sequence[_ParetoPlot], title: str) -> Any:
    from plotly.subplots import make_subplots

    columns = min(_PANEL_COLUMNS, len(plots))
    page = make_subplots(rows=-(-len(plots) // columns), cols=columns)
    for i, plot in enumerate(plots):
        row, column = (position + 1 for position in divmod(i, columns))
        page.add_traces(plot.traces(legend=i == 0), rows=row, cols=column)
        page.update_xaxes(title=plot.axis_label(0), range=plot.limits(0), row=row, col=column)
        page.update_yaxes(title=plot.axis_label(1), range=plot.limits(1), row=row, col=column)
    page.update_layout(
        title={"text": f"Pareto-optimal settings<br><sub>{html.escape(title)}</sub>"},
        template="plotly_white",
        legend={"orientation": "h", "y": -0.15},
    )
    return page


@dataclass(frozen=True)
class _ParetoPlot:
    """The trials over two objectives; ``whole``: there are no others."""

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

    def claims(self) -> list[tuple[Array, Array]]:
        """Of every setting that an audit lowered: x and y from what it claimed to what holds, (2,) each."""
        if CLAIMED not in self.search.columns or WORST_CASE not in self.names:
            return []
        both = pd.concat([self.search, self.baselines], ignore_index=True)
        axis = self.names.index(WORST_CASE)
        rows = both[both[CLAIMED] > both[WORST_CASE]]
        holds = [self.bars(rows, 0)[0], self.bars(rows, 1)[0]]
        claimed = list(holds)
        claimed[axis] = self.scales[axis].factor * rows[CLAIMED].to_numpy(dtype=np.float64)
        ends = np.stack([claimed, holds], axis=-1)  # (axis, setting, end)
        return [(ends[0, row], ends[1, row]) for row in range(len(rows))]

    def step(self) -> tuple[Array, Array, Literal["pre", "post"]]:
        """The boundary of what the front dominates, as a step line from point to point."""
        points = self.search.loc[self.on_front, self.names].to_numpy(dtype=np.float64)
        points = np.unique(points, axis=0) * [scale.factor for scale in self.scales]
        # Between two points of the front, what is best in y at that x is the next point where x is maximised.
        where: Literal["pre", "post"] = "pre" if self.objectives[self.names[0]] == "maximize" else "post"
        return points[:, 0], points[:, 1], where

    def bars(self, rows: pd.DataFrame, axis: int) -> tuple[Array, Array]:
        """Values and interval lengths below and above. Shapes (n,) and (2, n)."""
        name, factor = self.names[axis], self.scales[axis].factor
        value, low, high = (
            factor * rows[column].to_numpy(dtype=np.float64) for column in (name, f"{name}_low", f"{name}_high")
        )
        return value, np.maximum(np.nan_to_num(np.stack([value - low, high - value])), 0.0)

    def axis_label(self, axis: int) -> str:
        unit = f" ({self.scales[axis].unit.strip()})" if self.scales[axis].unit else ""
        return f"{measure_label(self.names[axis])}{unit}"

    def limits(self, axis: int) -> tuple[float, float]:
        """Bars may be long; the points decide, with room for half the longest bar."""
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
        for i, row in self.baselines.iterrows():
            k = int(str(i)) % len(BASELINE_COLOURS)
            label = f"{row['number']}: {setting_label(row.to_dict(), self.parameters)}"
            self._marks(axes, self.baselines.loc[[i]], BASELINE_COLOURS[k], BASELINE_MARKERS[k], label, 6)
        axes.set_xlim(*self.limits(0))
        axes.set_ylim(*self.limits(1))
        axes.set_xlabel(self.axis_label(0))
        axes.set_ylabel(self.axis_label(1))

    def _marks(self, axes: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str, order: int) -> None:
        (x, x_error), (y, y_error) = self.bars(rows, 0), self.bars(rows, 1)
        axes.errorbar(x, y, xerr=x_error, yerr=y_error, fmt="none", ecolor=colour, alpha=0.3, lw=1.0, zorder=order)
        axes.scatter(x, y, s=60, marker=marker, color=colour, edgecolor="white", lw=0.9, label=label, zorder=order + 1)

    def number_front(self, axes: Axes) -> None:
        """Numbers the front's points where there is room; the exported table names all of them."""
        from matplotlib.transforms import Bbox

        everything = pd.concat([self.search, self.baselines], ignore_index=True)
        xy = np.stack([self.bars(everything, 0)[0], self.bars(everything, 1)[0]], axis=1)
        half = 5 * DOTS_PER_INCH / 72
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
        """The same for plotly; ``legend``: whether these are the ones that the legend shows."""
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
        for i, row in self.baselines.iterrows():
            k = int(str(i)) % len(BASELINE_COLOURS)
            label = f"{row['number']}: {setting_label(row.to_dict(), self.parameters)}"
            groups.append((label, self.baselines.loc[[i]], BASELINE_COLOURS[k], BASELINE_SYMBOLS[k], 12))
        for label, rows, colour, symbol, size in groups:
            if rows.empty:
                continue
            (x, x_error), (y, y_error) = self.bars(rows, 0), self.bars(rows, 1)
            bar = {
                "type": "data",
                "symmetric": False,
                "thickness": 1,
                "width": 0,
                "color": faded(colour, 0.4),
                "visible": colour != GREY,
            }
            traces.append(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="markers",
                    name=label,
                    legendgroup=label,
                    showlegend=legend,
                    marker={"color": colour, "symbol": symbol, "size": size, "line": {"color": "white", "width": 1}},
                    error_x={**bar, "array": x_error[1], "arrayminus": x_error[0]},
                    error_y={**bar, "array": y_error[1], "arrayminus": y_error[0]},
                    text=[hover_text(row, self.parameters, self.names, self.scales) for row in rows.to_dict("records")],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
        return traces


def draw_hypervolume(trace: pd.DataFrame, folder: Path, *, title: str, reference: Mapping[str, float]) -> list[Path]:
    """Draws how the front's hypervolume grew.

    Args:
        trace: What ``hypervolume.hypervolume_trace`` gave, with at least one row.
        folder: Where ``hypervolume.png`` and ``hypervolume.html`` go.
        title: What was measured.
        reference: The reference point, which the picture names.

    Returns:
        The two files.

    Raises:
        ValueError: The trace is empty.
    """
    if trace.empty:
        raise ValueError("trace must hold a complete trial, got none; let one finish first")
    import plotly.graph_objects as go
    from matplotlib.ticker import MaxNLocator

    order = np.arange(1, len(trace) + 1)
    volume = trace["hypervolume"].to_numpy(dtype=np.float64)
    point = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in reference.items())
    note = f"Reference point: {point}."

    figure, axes = new_figure(7.6, 4.0)
    style_axes(axes)
    axes.step(order, volume, where="post", color=BLUE, lw=1.8)
    rises = np.flatnonzero(np.diff(volume, prepend=-np.inf) > 0)
    axes.scatter(order[rises], volume[rises], s=34, color=BLUE, edgecolor="white", lw=0.8, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.5, len(trace) + 0.5)
    axes.set_xlabel("Complete trials, in the order of finishing")
    axes.set_ylabel("Hypervolume")
    headline(figure, "Hypervolume of the front", title, note)

    page = go.Figure()
    page.add_scatter(
        x=order,
        y=volume,
        mode="lines+markers",
        line={"color": BLUE, "shape": "hv"},
        text=[f"#{number}" for number in trace["number"]],
        hovertemplate="%{text}: %{y:.5f}<extra></extra>",
    )
    page.update_layout(
        title={"text": f"Hypervolume of the front<br><sub>{html.escape(title)}</sub>"},
        template="plotly_white",
        xaxis={"title": "Complete trials, in the order of finishing"},
        yaxis={"title": "Hypervolume"},
    )
    return [
        save_png(figure, folder / "hypervolume.png"),
        save_html(page, folder / "hypervolume.html", title=f"Hypervolume, {title}", note=note),
    ]


def draw_learning_curves(
    epochs: pd.DataFrame, frame: pd.DataFrame, parameters: Sequence[str], folder: Path, *, title: str
) -> list[Path]:
    """Draws every metric over the epochs: the search's trials as thin lines, the baselines as thick ones.

    Args:
        epochs: One row an epoch of a trial: number, epoch, and a column each metric (fractions for accuracies).
        frame: The table of ``records.to_frame`` of the same trials. Pruned and failed ones are dashed.
        parameters: Columns to name a setting by.
        folder: Where ``learning-curves.png`` and ``learning-curves.html`` go.
        title: What was trained.

    Returns:
        The two files.

    Raises:
        ValueError: There is no epoch.
    """
    if epochs.empty:
        raise ValueError("epochs must hold at least one, got none; let one finish first")
    import plotly.graph_objects as go
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator
    from plotly.subplots import make_subplots

    metrics = [name for name in epochs.columns if name not in ("number", "epoch")]
    labels = [measure_label(name) + (" (%)" if "accuracy" in name else "") for name in metrics]
    figure, grid = new_figures(3.9 * len(metrics), 4.4, len(metrics))
    page = make_subplots(cols=len(metrics), subplot_titles=labels)
    baseline_numbers = [str(number) for number in frame.loc[frame["kind"] == "baseline", "number"]]
    rows = {str(row["number"]): row for row in frame.to_dict("records")}
    curves = {str(number): curve.sort_values("epoch") for number, curve in epochs.groupby("number", sort=False)}
    unfinished = False
    for number in sorted(curves, key=lambda number: number in baseline_numbers):
        row, curve = rows[number], curves[number]
        reference = number in baseline_numbers
        ended = row["state"] in ("pruned", "failed")
        unfinished |= ended
        index = baseline_numbers.index(number) if reference else 0
        colour = BASELINE_COLOURS[index % len(BASELINE_COLOURS)] if reference else BLUE
        name = f"{number}: {setting_label(row, parameters)}" + (f", {row['state']}" if ended else "")
        for k, metric in enumerate(metrics):
            y = curve[metric] * (100 if "accuracy" in metric else 1)
            grid[k].plot(
                curve["epoch"],
                y,
                color=colour,
                lw=2.0 if reference else 0.9,
                alpha=1.0 if reference else 0.35,
                ls="--" if ended else "-",
                zorder=3 if reference else 2,
            )
            page.add_trace(
                go.Scatter(
                    x=curve["epoch"],
                    y=y,
                    mode="lines",
                    name=name,
                    legendgroup=number,
                    legendrank=1 if reference else 2,
                    showlegend=k == 0,
                    line={
                        "color": colour,
                        "width": 3 if reference else 1.2,
                        "dash": "dash" if ended else "solid",
                    },
                    opacity=1.0 if reference else 0.5,
                ),
                row=1,
                col=k + 1,
            )
    for k, metric in enumerate(metrics):
        style_axes(grid[k])
        grid[k].set_title(labels[k], fontsize=10, loc="left", color=INK)
        grid[k].set_xlabel("Epoch")
        grid[k].xaxis.set_major_locator(MaxNLocator(integer=True))
        if "loss" in metric:
            grid[k].set_yscale("log")
            grid[k].yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            grid[k].yaxis.set_major_formatter(FormatStrFormatter("%g"))
            grid[k].yaxis.set_minor_locator(NullLocator())
            page.update_yaxes(type="log", dtick="D2", row=1, col=k + 1)
        page.update_xaxes(title="Epoch", row=1, col=k + 1)
    handles = [Line2D([], [], color=BLUE, lw=1.2, alpha=0.6, label="search")]
    if unfinished:
        handles.append(Line2D([], [], color=BLUE, lw=1.2, alpha=0.6, ls="--", label="pruned or failed"))
    for index, number in enumerate(baseline_numbers):
        label = f"{number}: {setting_label(rows[number], parameters)}"
        handles.append(Line2D([], [], color=BASELINE_COLOURS[index % len(BASELINE_COLOURS)], lw=2, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    note = "Each setting's loss is its own: compare the shapes of the curves, not their heights."
    headline(figure, "Learning curves", title, note)
    page.update_layout(
        title={"text": f"Learning curves<br><sub>{html.escape(title)}</sub>"},
        template="plotly_white",
        margin={"t": 120},
    )
    return [
        save_png(figure, folder / "learning-curves.png"),
        save_html(page, folder / "learning-curves.html", title=f"Learning curves, {title}", note=note),
    ]


def hover_text(row: Mapping[Any, Any], parameters: Sequence[str], names: Sequence[str], scales: Sequence[Scale]) -> str:
    """What an interactive picture says of a trial: number, setting, each measure with its interval, replicates."""
    lines = [f"<b>#{row['number']}</b> {setting_label(row, parameters)}"]
    for name, scale in zip(names, scales, strict=True):
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        bracket = "" if math.isnan(low) else f" [{scale.text(low)}, {scale.text(high)}]"
        lines.append(f"{measure_label(name)}: {scale.text(row[name])}{bracket}")
    if not pd.isna(row["replicates"]) and row["replicates"] > 1:
        lines.append(f"means over {row['replicates']} replicates")
    return "<br>".join(lines)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of one panel; sizes in inches."""
    figure, axes = new_figures(width, height, 1)
    return figure, axes[0]


def new_figures(width: float, height: float, panels: int) -> tuple[Figure, list[Axes]]:
    """An empty figure of panels side by side; sizes in inches."""
    return new_figure_grid(width, height, 1, panels)


def new_figure_grid(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """An empty figure of panels in rows, and its panels row by row; sizes in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.005, 0.005, 0.985, 0.985 - HEADLINE / height)))
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def style_axes(axes: Axes) -> None:
    """A quiet frame: two spines, a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=RULE, lw=0.8)
    axes.set_axisbelow(True)


def headline(figure: Figure, heading: str, title: str, note: str) -> None:
    """Writes what is drawn, of what, and how to read it, into the top ``HEADLINE`` inches of a figure."""
    height = figure.get_figheight()
    wrapped = textwrap.fill(note, int(CHARACTERS_AN_INCH * figure.get_figwidth()))
    lines = ((heading, 0.12, 13, "bold", INK), (title, 0.40, 9.5, "normal", INK), (wrapped, 0.60, 8, "normal", FAINT))
    for text, inches, size, weight, colour in lines:
        figure.text(
            0.15 / figure.get_figwidth(),
            1 - inches / height,
            text,
            ha="left",
            va="top",
            fontsize=size,
            fontweight=weight,
            color=colour,
            in_layout=False,
        )


def faded(colour: str, alpha: float) -> str:
    """A colour ``#RRGGBB`` as plotly's rgba with an opacity in [0, 1]."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def save_png(figure: Figure, path: Path) -> Path:
    """Renders a figure and replaces the file at one stroke."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", facecolor="white")
    return atomic.write(path, image.getvalue())


def save_html(figure: Any, path: Path, *, title: str, note: str) -> Path:
    """Writes a plotly figure as a page that needs no network: plotly's script is in it, once."""
    body = figure.to_html(include_plotlyjs=True, full_html=False, default_height="90vh", config={"displaylogo": False})
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        "<style>body{margin:0 1rem;font-family:sans-serif;color:#222831}</style></head>\n"
        f"<body>{body}<p>{html.escape(note)}</p></body></html>\n"
    )
    return atomic.write(path, page)
