"""The interactive page of the surfaces."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from analysis.figures.style import GREY, INK
from analysis.figures.surface_panel import BAND, Panel

_COLOUR_SCALE: Final = "Viridis"
_DECADES_FOR_POWERS: Final = 2  # an axis that spans fewer needs ticks between the powers of ten


def interactive(panels: Sequence[Panel], title: str) -> Any:
    """A plotly figure with a menu of the measures.

    Args:
        panels: The measures; at least one.
        title: What was measured.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    owners: list[int] = []
    for i, panel in enumerate(panels):
        traces = [_dots(panel), *_surfaces(panel), *_planes(panel)]
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
            "xaxis": _parameter_axis(first, 0),
            "yaxis": _parameter_axis(first, 1),
            "zaxis": _z_axis(first),
            "aspectmode": "manual",
            "aspectratio": {"x": 1.15, "y": 1.15, "z": 0.85},
            "camera": {"eye": {"x": -1.35, "y": -1.9, "z": 0.85}},
        },
        legend={"orientation": "h", "y": -0.02},
        updatemenus=[{"buttons": buttons, "x": 0.02, "xanchor": "left", "y": 0.99, "yanchor": "top"}],
        margin={"l": 0, "r": 0, "b": 40, "t": 80},
    )
    return figure


def _heading(panel: Panel, title: str) -> str:
    return f"<b>{html.escape(panel.label)}</b><br><sub>{html.escape(title)}</sub>"


def _z_axis(panel: Panel) -> dict[str, Any]:
    return {"title": {"text": panel.axis_label}, "range": list(panel.limits)}


def _parameter_axis(panel: Panel, index: int) -> dict[str, Any]:
    axis = panel.axes[index]
    shown: dict[str, Any] = {"title": {"text": axis.name}, "type": "log" if axis.log else "linear"}
    if axis.log and np.ptp(panel.points[:, index]) >= _DECADES_FOR_POWERS:
        shown |= {"dtick": 1, "exponentformat": "power"}
    return shown


def _dots(panel: Panel) -> Any:
    import plotly.graph_objects as go

    x, y = (axis.shown(panel.points[:, i]) for i, axis in enumerate(panel.axes))
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
    x, y = panel.axes[0].shown(drawn.x), panel.axes[1].shown(drawn.y)
    at = f"{panel.axes[0].name} = %{{x:.4g}}<br>{panel.axes[1].name} = %{{y:.4g}}<br>"
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
        traces.append(
            go.Surface(
                x=x,
                y=y,
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
    return traces


def _planes(panel: Panel) -> list[Any]:
    """A plane at the height of each baseline."""
    import plotly.graph_objects as go

    x, y = (axis.shown(limits) for axis, limits in zip(panel.axes, panel.ranges(), strict=True))
    return [
        go.Surface(
            x=x,
            y=y,
            z=np.full((2, 2), baseline.value),
            name=f"{html.escape(baseline.name)}, {baseline.value:.1f}{panel.scale.unit}",
            showlegend=True,
            showscale=False,
            colorscale=[[0, baseline.colour], [1, baseline.colour]],
            opacity=0.25,
            text=[[baseline.text] * 2] * 2,
            hovertemplate="%{text}<extra></extra>",
        )
        for baseline in panel.baselines
    ]
