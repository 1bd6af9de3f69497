"""The hypervolume of the front over a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import BLUE, Array
from analysis.hypervolume import Reference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ORDER: Final = "Complete trials, in the order of finishing"


def draw_hypervolume(trace: pd.DataFrame, folder: Path, *, title: str, reference: Reference) -> list[Path]:
    """Draws how the front's hypervolume grew.

    Args:
        trace: The result of ``hypervolume.hypervolume_trace``, with at least one row.
        folder: Where ``hypervolume.png`` and ``hypervolume.html`` go.
        title: What was measured.
        reference: The run's reference, which the picture names.

    Returns:
        The two files.

    Raises:
        ValueError: The trace is empty.
    """
    if trace.empty:
        raise ValueError("trace must hold a complete trial, got none; let one finish first")
    axes = [
        f"{name.replace('_', ' ')} from {reference.point[name]:.4g} in units of {reference.scale[name]:.4g}"
        for name in reference.point
    ]
    volume = trace["hypervolume"].to_numpy(dtype=np.float64)
    return style.save(
        _static(volume),
        _interactive(trace, volume),
        folder / "hypervolume",
        heading="Hypervolume of the front",
        title=title,
        note=f"Measured: {', '.join(axes)}.",
    )


def _static(volume: Array) -> Figure:
    from matplotlib.ticker import MaxNLocator

    order = np.arange(1, len(volume) + 1)
    figure, (axes,) = style.new_figure(7.6, 4.0)
    style.style_axes(axes)
    axes.step(order, volume, where="post", color=BLUE, lw=1.8)
    rises = np.flatnonzero(np.diff(volume, prepend=-np.inf) > 0)
    axes.scatter(order[rises], volume[rises], s=34, color=BLUE, edgecolor="white", lw=0.8, zorder=3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(0.5, len(volume) + 0.5), xlabel=_ORDER, ylabel="Hypervolume")
    return figure


def _interactive(trace: pd.DataFrame, volume: Array) -> Any:
    import plotly.graph_objects as go

    page = go.Figure()
    page.add_scatter(
        x=np.arange(1, len(volume) + 1),
        y=volume,
        mode="lines+markers",
        line={"color": BLUE, "shape": "hv"},
        text=[f"#{number}" for number in trace["number"]],
        hovertemplate="%{text}: %{y:.5g}<extra></extra>",
    )
    page.update_layout(xaxis={"title": _ORDER}, yaxis={"title": "Hypervolume"})
    return page
