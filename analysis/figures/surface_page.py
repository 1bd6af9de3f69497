"""The interactive page of the surfaces."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.figures.style import GREY, INK
from analysis.gaussian_process import values_at
from analysis.surfaces import BAND

if TYPE_CHECKING:
    from analysis.figures.surfaces import Panel

_COLOUR_SCALE: Final = "Viridis"
_DECADES_FOR_POWERS: Final = 2  # an axis that spans fewer needs ticks between the powers of ten


def interactive(panels: Sequence[Panel], title: str) -> Any:
    """A plotly figure with a menu of the measures."""
    import plotly.graph_objects as go

    figure = go.Figure()
    owners: list[int] = []
    for i, panel in enumerate(panels):
        traces = [_dots(panel), *_surfaces(panel), *_planes(panel)]
        figure.add_traces([trace.update(visible=i == 0) for trace in traces])
        owners += [i] * len(traces)
    shown = [
        {
            "title.text": f"<b>{html.escape(panel.label)}</b><br><sub>{html.escape(title)}</sub>",
            "scene.zaxis": {"title": {"text": panel.scale.label(panel.measure)}, "range": list(panel.limits)},
        }
        for panel in panels
    ]
    buttons = [
        {"label": panel.label, "method": "update", "args": [{"visible": [owner == i for owner in owners]}, changes]}
        for i, (panel, changes) in enumerate(zip(panels, shown, strict=True))
    ]
    x_axis, y_axis = _parameter_axes(panels[0])
    figure.update_layout(
        title={"text": shown[0]["title.text"], "x": 0.02, "xanchor": "left"},
        template="plotly_white",
        scene={
            "xaxis": x_axis,
            "yaxis": y_axis,
            "zaxis": shown[0]["scene.zaxis"],
            "aspectmode": "manual",
            "aspectratio": {"x": 1.15, "y": 1.15, "z": 0.85},
            "camera": {"eye": {"x": -1.35, "y": -1.9, "z": 0.85}},
        },
        legend={"orientation": "h", "y": -0.02},
        updatemenus=[{"buttons": buttons, "x": 0.02, "xanchor": "left", "y": 0.99, "yanchor": "top"}],
        margin={"l": 0, "r": 0, "b": 40, "t": 80},
    )
    return figure


def _parameter_axes(panel: Panel) -> list[dict[str, Any]]:
    axes = []
    for (name, domain), along in zip(panel.axes.items(), panel.points.T, strict=True):
        axis: dict[str, Any] = {"title": {"text": name}, "type": "log" if domain.log else "linear"}
        if domain.log and np.ptp(along) >= _DECADES_FOR_POWERS:
            axis |= {"dtick": 1, "exponentformat": "power"}
        axes.append(axis)
    return axes


def _dots(panel: Panel) -> Any:
    import plotly.graph_objects as go

    x, y = (values_at(along, domain) for along, domain in zip(panel.points.T, panel.axes.values(), strict=True))
    return go.Scatter3d(
        x=x,
        y=y,
        z=panel.values,
        mode="markers",
        name="measured, 95 % interval",
        marker={
            "size": 4.5,
            "color": INK,
            "symbol": ["circle" if typical else "circle-open" for typical in panel.typical],
            "line": {"color": ["white" if typical else INK for typical in panel.typical], "width": 1},
        },
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


def _surfaces(panel: Panel) -> list[Any]:
    """The surface, and the two edges of its band."""
    import plotly.graph_objects as go

    drawn = panel.surface
    if drawn is None:
        return []
    (x_name, x_domain), (y_name, y_domain) = panel.axes.items()
    x, y = values_at(drawn.x, x_domain), values_at(drawn.y, y_domain)
    at = f"{x_name} = %{{x:.4g}}<br>{y_name} = %{{y:.4g}}<br>"
    traces = [
        go.Surface(
            x=x,
            y=y,
            z=drawn.mean,
            name="fit" if drawn.fitted else "measured grid",
            colorscale=_COLOUR_SCALE,
            cmin=panel.colours[0],
            cmax=panel.colours[1],
            opacity=0.92,
            showlegend=True,
            colorbar={"title": {"text": panel.scale.unit.strip()}, "len": 0.6, "thickness": 14},
            hovertemplate=f"{at}%{{z:.2f}}{panel.scale.unit}<extra>%{{fullData.name}}</extra>",
        )
    ]
    for k, edge in enumerate(panel.band() or ()):
        name = f"± {BAND:g} standard deviations"
        plain = _plain(GREY, 0.22)
        traces.append(
            go.Surface(x=x, y=y, z=edge, name=name, legendgroup="band", showlegend=k == 0, hoverinfo="skip", **plain)
        )
    return traces


def _planes(panel: Panel) -> list[Any]:
    """A plane at the height of each baseline."""
    import plotly.graph_objects as go

    x, y = (values_at(ends, domain) for ends, domain in zip(panel.ranges(), panel.axes.values(), strict=True))
    return [
        go.Surface(
            x=x,
            y=y,
            z=np.full((2, 2), baseline.value),
            name=f"{html.escape(baseline.name)}, {baseline.value:.1f}{panel.scale.unit}",
            showlegend=True,
            text=[[baseline.text] * 2] * 2,
            hovertemplate="%{text}<extra></extra>",
            **_plain(baseline.colour, 0.25),
        )
        for baseline in panel.baselines
    ]


def _plain(colour: str, opacity: float) -> dict[str, Any]:
    return {"colorscale": [[0, colour], [1, colour]], "opacity": opacity, "showscale": False}
