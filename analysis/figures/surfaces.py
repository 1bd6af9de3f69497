"""The accuracy surfaces over two parameters of the loss, as in Figure 4 of Song, Wang, He and Zhou 2022.

What was measured is drawn as dots with 95 % intervals; a fitted surface is called one and shows its uncertainty; an
exact grid is drawn as it is. A picture for each measure, one of all, and one interactive page.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.figures.all import (
    BASELINE_COLOURS,
    DOTS_PER_INCH,
    GREY,
    HEADLINE,
    INK,
    RULE,
    Array,
    Scale,
    complete,
    headline,
    hover_text,
    left_out,
    measure_label,
    replicates_note,
    save_html,
    save_png,
    scale_of,
    setting_label,
)
from analysis.records import ATTACK_SEPARATOR, WORST_CASE, is_under_attack, measures
from analysis.surfaces import FEWEST_FOR_A_FIT, Surface, observation_noise, surface

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

COLOUR_MAP: Final = "viridis"  # dark to light in any colour vision and in print
_EDGES: Final = ("-", (0, (4, 3)))  # of the baselines' planes, so that two at the same height are both seen
BAND: Final = 2.0  # standard deviations
_VIEW: Final = {"elev": 22.0, "azim": -125.0}


def draw_surfaces(frame: pd.DataFrame, parameters: Sequence[str], folder: Path, *, title: str) -> list[Path]:
    """Draws every measure over the first two parameters.

    Args:
        frame: A table of ``records.to_frame``. Complete trials are drawn; how many others there are is said.
        parameters: The loss's parameters; the first is the x-axis, the second the y-axis.
        folder: Where the files go.
        title: What was measured: configuration, data set, attack, radius.

    Returns:
        ``surfaces.png`` (all measures), ``surfaces.html`` (interactive, offline), then ``surface-MEASURE.png`` of each
        measure (``/`` in its name becomes ``-``).

    Raises:
        ValueError: Fewer than two parameters, or no complete trial.
    """
    if len(parameters) < 2:
        raise ValueError(f"parameters must name at least two, got {list(parameters)}; a surface needs two axes")
    search = complete(frame, "search")
    if search.empty:
        raise ValueError(f"trials must hold a complete one, got {len(frame)} without; let one finish first")
    alone = [_panel(frame, search, parameters, measure) for measure in _distinct(search)]
    panels = _comparable(alone)
    note = _note(panels[0], " ".join(filter(None, [replicates_note(frame), left_out(frame)])))
    return [
        save_png(_overview(panels, title, note), folder / "surfaces.png"),
        save_html(_interactive(panels, title), folder / "surfaces.html", title=f"Surfaces, {title}", note=note),
        *(
            save_png(_single(panel, title, note), folder / f"surface-{panel.measure.replace('/', '-')}.png")
            for measure in alone
            for panel in _comparable([measure])
        ),
    ]


def _distinct(search: pd.DataFrame) -> list[str]:
    """The measures but those that are the worst case under another name: the only attack's over its views."""
    return [
        measure
        for measure in measures(search)
        if ATTACK_SEPARATOR not in measure
        or WORST_CASE not in search.columns
        or not np.array_equal(search[measure], search[WORST_CASE])
    ]


@dataclass(frozen=True)
class _Baseline:
    name: str
    value: float
    colour: str
    text: str


@dataclass(frozen=True)
class _Panel:
    """One measure in the unit that is shown."""

    measure: str
    parameters: tuple[str, str]
    scale: Scale
    points: Array  # (n, 2)
    values: Array  # (n,)
    low: Array  # (n,); the value itself where there is no interval
    high: Array
    hover: tuple[str, ...]
    surface: Surface | None
    baselines: tuple[_Baseline, ...]
    limits: tuple[float, float] = (0.0, 1.0)  # of the z-axis
    colours: tuple[float, float] = (0.0, 1.0)  # the values at the ends of the colour map

    @property
    def label(self) -> str:
        return measure_label(self.measure)

    @property
    def axis(self) -> str:
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


def _comparable(panels: Sequence[_Panel]) -> list[_Panel]:
    """Gives the worst case and the attacks one z-axis and one colour scale, every other measure its own."""
    shared = [panel for panel in panels if is_under_attack(panel.measure)]
    result = []
    for panel in panels:
        group = shared if panel in shared else [panel]
        low, high = min(one.extent()[0] for one in group), max(one.extent()[1] for one in group)
        room = 0.04 * (high - low) or 1e-3 * max(1.0, abs(high))
        low, high = low - room, high + room
        if panel.scale.unit:
            low, high = max(low, 0.0), min(high, 100.0)
        drawn = [one.surface.mean if one.surface is not None else one.values for one in group]
        colours = min(float(values.min()) for values in drawn), max(float(values.max()) for values in drawn)
        result.append(replace(panel, limits=(low, high), colours=colours))
    return result


def _panel(frame: pd.DataFrame, search: pd.DataFrame, parameters: Sequence[str], measure: str) -> _Panel:
    scale = scale_of(frame, measure)
    points = search[list(parameters[:2])].to_numpy(dtype=np.float64)
    values, low, high = (
        scale.factor * search[column].to_numpy(dtype=np.float64)
        for column in (measure, f"{measure}_low", f"{measure}_high")
    )
    noise = observation_noise(search, measure)
    baselines = complete(frame, "baseline")
    return _Panel(
        measure=measure,
        parameters=(parameters[0], parameters[1]),
        scale=scale,
        points=points,
        values=values,
        low=np.where(np.isnan(low), values, low),
        high=np.where(np.isnan(high), values, high),
        hover=tuple(hover_text(row, parameters, [measure], [scale]) for row in search.to_dict("records")),
        surface=surface(points, values, None if noise is None else scale.factor**2 * noise),
        baselines=tuple(
            _Baseline(
                name=f"{row['number']}: {setting_label(row, parameters)}",
                value=scale.factor * row[measure],
                colour=BASELINE_COLOURS[i % len(BASELINE_COLOURS)],
                text=hover_text(row, parameters, [measure], [scale]),
            )
            for i, row in enumerate(baselines.to_dict("records"))
        ),
    )


def _note(panel: _Panel, others: str) -> str:
    n = len(panel.values)
    dots = f"Dots: {n} measured setting{'s' * (n != 1)} with 95 % intervals."
    if panel.surface is None:
        reason = f"too few (below {FEWEST_FOR_A_FIT})" if n < FEWEST_FOR_A_FIT else "not spread over both parameters"
        kind = f"No surface is fitted: the settings are {reason}."
    elif panel.surface.fitted:
        kind = f"Surface: a Gaussian-process fit; grey: its ± {BAND:g} standard deviations."
    else:
        kind = f"Surface: the exact grid of {panel.surface.mean.size} settings, no fit."
    return " ".join(filter(None, [dots, kind, others]))


def _single(panel: _Panel, title: str, note: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 6.2), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0.02, 0.03, 0.96, 0.90), projection="3d")
    _draw(axes, panel, zoom=1.0, labelsize=9)
    handles = _handles(panel, values=True)
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=8.5)
    headline(figure, panel.label, title, note)
    return figure


def _overview(panels: Sequence[_Panel], title: str, note: str) -> Figure:
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    foot, width, height = 0.4, 4.2, 3.7  # inches
    total = HEADLINE + foot + rows * height
    figure = Figure(figsize=(columns * width, total), dpi=DOTS_PER_INCH)
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        bottom = foot + (rows - 1 - row) * height
        box = (column / columns, bottom / total, 1 / columns, height / total)
        _draw(figure.add_axes(box, projection="3d"), panel, zoom=0.97, labelsize=7.5)
        figure.text(
            (column + 0.5) / columns,
            (bottom + height - 0.25) / total,
            panel.label,
            ha="center",
            fontsize=10,
            fontweight="bold",
            color=INK,
        )
    handles = _handles(panels[0], values=False)
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9)
    shared = "The worst case and the attacks share axis and colours."
    headline(figure, "Surfaces over {} and {}".format(*panels[0].parameters), title, f"{note} {shared}")
    return figure


def _draw(axes: Any, panel: _Panel, *, zoom: float, labelsize: float) -> None:
    """Draws a panel on 3D axes. Depth is ordered by hand: matplotlib sorts whole artists by their mean depth."""
    from matplotlib.ticker import MaxNLocator
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    axes.computed_zorder = False
    axes.view_init(**_VIEW)
    axes.set_box_aspect((1.15, 1.15, 0.85), zoom=zoom)
    x, y = panel.points.T
    above = np.ones(len(x), dtype=bool)
    x_range, y_range = (_range(values) for values in (x, y))
    found = panel.surface
    if found is not None:
        above = ~(panel.values < found.at(panel.points))
        mesh = np.meshgrid(found.x, found.y)
        band = panel.band()
        if band is not None:
            for edge, order in zip(band, (2, 6), strict=True):
                axes.plot_wireframe(*mesh, edge, rcount=9, ccount=9, color=GREY, lw=0.5, alpha=0.55, zorder=order)
        axes.plot_surface(
            *mesh,
            found.mean,
            rcount=len(found.y),
            ccount=len(found.x),
            cmap=COLOUR_MAP,
            vmin=panel.colours[0],
            vmax=panel.colours[1],
            alpha=0.88,
            lw=0 if found.fitted else 0.4,
            edgecolor="none" if found.fitted else "white",
            antialiased=not found.fitted,
            zorder=4,
        )
    for i, baseline in enumerate(panel.baselines):
        corners_x, corners_y = np.meshgrid(x_range, y_range)
        plane = np.full((2, 2), baseline.value)
        axes.plot_surface(corners_x, corners_y, plane, color=baseline.colour, alpha=0.10, lw=0, zorder=3)
        (x0, x1), (y0, y1) = x_range, y_range
        axes.plot(
            [x0, x1, x1, x0, x0],
            [y0, y0, y1, y1, y0],
            [baseline.value] * 5,
            color=baseline.colour,
            lw=1.2,
            ls=_EDGES[i % len(_EDGES)],
            zorder=3,
        )
    for mask, order in ((~above, 3), (above, 7)):
        bars = np.stack([np.stack([x, y, end], axis=1)[mask] for end in (panel.low, panel.high)], axis=1)
        axes.add_collection3d(
            Line3DCollection(bars, colors=INK, linewidths=0.7, alpha=0.6, zorder=order), autolim=False
        )
        axes.scatter(
            x[mask],
            y[mask],
            panel.values[mask],
            s=2.2 * labelsize,
            color=INK,
            edgecolor="white",
            lw=0.5,
            depthshade=False,
            zorder=order + 1,
        )
    axes.set(xlim=x_range, ylim=y_range, zlim=panel.limits)
    axes.set_xlabel(panel.parameters[0], fontsize=labelsize + 1)
    axes.set_ylabel(panel.parameters[1], fontsize=labelsize + 1)
    if panel.scale.unit:
        axes.zaxis.set_major_formatter(lambda value, _: f"{value:g}{panel.scale.unit}")
    axes.tick_params(labelsize=labelsize, colors=INK, pad=0)
    axes.tick_params(axis="z", pad=4)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis._axinfo["grid"].update(color=RULE, linewidth=0.7)
        axis.set_major_locator(MaxNLocator(5))
    # The lowest labels of x and y would meet in the corner in front.
    y_low, y_high = y_range
    axes.set_yticks([tick for tick in axes.get_yticks() if y_low + 0.05 * (y_high - y_low) < tick <= y_high])


def _range(values: Array) -> tuple[float, float]:
    room = 0.03 * float(np.ptp(values)) or 1e-3 * max(1.0, float(np.abs(values).max()))
    return float(values.min()) - room, float(values.max()) + room


def _handles(panel: _Panel, *, values: bool) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Line2D([], [], marker="o", color=INK, lw=0.7, markersize=5, markeredgecolor="white", label="measured")
    ]
    if panel.surface is not None:
        handles.append(Patch(color="#21918c", label="fit" if panel.surface.fitted else "measured grid"))
    for i, baseline in enumerate(panel.baselines):
        value = f", {baseline.value:.1f}{panel.scale.unit}" if values else ""
        handles.append(
            Patch(
                facecolor=(baseline.colour, 0.15),
                edgecolor=baseline.colour,
                lw=1.2,
                ls=_EDGES[i % len(_EDGES)],
                label=baseline.name + value,
            )
        )
    return handles


def _interactive(panels: Sequence[_Panel], title: str) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    owners: list[int] = []
    for i, panel in enumerate(panels):
        traces = _traces(panel)
        figure.add_traces([trace.update(visible=i == 0) for trace in traces])
        owners += [i] * len(traces)
    buttons = [
        {
            "label": panel.label,
            "method": "update",
            "args": [
                {"visible": [owner == i for owner in owners]},
                {"title.text": _heading(panel, title), "scene.zaxis": _z_axis(panel)},
            ],
        }
        for i, panel in enumerate(panels)
    ]
    first = panels[0]
    figure.update_layout(
        title={"text": _heading(first, title), "x": 0.02, "xanchor": "left"},
        template="plotly_white",
        scene={
            "xaxis": {"title": {"text": first.parameters[0]}},
            "yaxis": {"title": {"text": first.parameters[1]}},
            "zaxis": _z_axis(first),
            "aspectratio": {"x": 1.15, "y": 1.15, "z": 0.85},
            "camera": {"eye": {"x": -1.35, "y": -1.9, "z": 0.85}},
        },
        legend={"orientation": "h", "y": -0.02},
        updatemenus=[{"buttons": buttons, "x": 0.02, "xanchor": "left", "y": 0.99, "yanchor": "top"}],
        margin={"l": 0, "r": 0, "b": 40, "t": 80},
    )
    return figure


def _heading(panel: _Panel, title: str) -> str:
    return f"<b>{html.escape(panel.label)}</b><br><sub>{html.escape(title)}</sub>"


def _z_axis(panel: _Panel) -> dict[str, Any]:
    return {"title": {"text": panel.axis}, "range": list(panel.limits)}


def _traces(panel: _Panel) -> list[Any]:
    import plotly.graph_objects as go

    x, y = panel.points.T
    traces: list[Any] = [
        go.Scatter3d(
            x=x,
            y=y,
            z=panel.values,
            mode="markers",
            name="measured, 95 % interval",
            marker={"size": 4.5, "color": INK, "line": {"color": "white", "width": 1}},
            error_z={
                "type": "data",
                "symmetric": False,
                "array": panel.high - panel.values,
                "arrayminus": panel.values - panel.low,
                "color": INK,
                "thickness": 1.5,
                "width": 2,
            },
            text=panel.hover,
            hovertemplate="%{text}<extra></extra>",
        )
    ]
    found = panel.surface
    if found is not None:
        first, second = panel.parameters
        at = f"{first} = %{{x:.4g}}<br>{second} = %{{y:.4g}}<br>"
        hover = f"{at}%{{z:.2f}}{panel.scale.unit}<extra>%{{fullData.name}}</extra>"
        traces.append(
            go.Surface(
                x=found.x,
                y=found.y,
                z=found.mean,
                name="fit" if found.fitted else "measured grid",
                colorscale=COLOUR_MAP.capitalize(),
                cmin=panel.colours[0],
                cmax=panel.colours[1],
                opacity=0.92,
                showlegend=True,
                colorbar={"title": {"text": panel.scale.unit.strip()}, "len": 0.6, "thickness": 14},
                hovertemplate=hover,
            )
        )
        for k, edge in enumerate(panel.band() or ()):
            traces.append(
                go.Surface(
                    x=found.x,
                    y=found.y,
                    z=edge,
                    name=f"± {BAND:g} standard deviations",
                    legendgroup="band",
                    showlegend=k == 0,
                    showscale=False,
                    colorscale=[[0, GREY], [1, GREY]],
                    opacity=0.22,
                    hoverinfo="skip",
                )
            )
    x_range, y_range = _range(x), _range(y)
    for baseline in panel.baselines:
        traces.append(
            go.Surface(
                x=x_range,
                y=y_range,
                z=np.full((2, 2), baseline.value),
                name=f"{baseline.name}, {baseline.value:.1f}{panel.scale.unit}",
                showlegend=True,
                showscale=False,
                colorscale=[[0, baseline.colour], [1, baseline.colour]],
                opacity=0.25,
                text=[[baseline.text] * 2] * 2,
                hovertemplate="%{text}<extra></extra>",
            )
        )
    return traces
