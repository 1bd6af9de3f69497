"""Accuracy against the radius of the ball, for each attack and for the worst case over all of them.

Carlini et al. 2019, "On evaluating adversarial robustness", section 4.3: it must fall to 0 as the radius grows, or the
attack is to blame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, measure_label
from trainables.metrics import ROBUST

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Curve:
    """A measure's accuracies and intervals over the radius, in percent."""

    label: str
    colour: str
    rows: pd.DataFrame
    worst: bool


def draw_epsilon_curves(frame: pd.DataFrame, folder: Path, *, title: str, axis: str) -> list[Path]:
    """Draws accuracy over epsilon, one curve per measure.

    Args:
        frame: One row per measure (``robust_accuracy``, ``ATTACK/VIEW``) and radius: ``measure``, ``epsilon`` (0 for
            the clean images), ``accuracy``, ``low``, ``high``; fractions in [0, 1].
        folder: Where ``epsilon-curves.png`` and ``epsilon-curves.html`` go.
        title: What was measured.
        axis: The label of the x-axis: what an epsilon is, with its norm.

    Returns:
        The two files.
    """
    curves = _curves(frame)
    return style.save(
        _static(curves, axis),
        _interactive(curves, axis),
        folder / "epsilon-curves",
        heading="Accuracy against the radius",
        title=title,
        note="Worst case: the share of images that no attack on any view breaks; band: its 95 % interval.",
    )


def _curves(frame: pd.DataFrame) -> list[_Curve]:
    """The curve of each measure; the worst case comes last, on top.

    A curve that lies under another is left out, as of an attack that has the same effect on every view.
    """
    ordered = frame.sort_values("epsilon", kind="stable")
    rows = {str(name): own for name, own in ordered.groupby("measure", sort=False)}
    names, visible = [], {tuple(rows[ROBUST]["accuracy"])}
    for name, own in rows.items():
        heights = tuple(own["accuracy"])
        if heights not in visible:
            names.append(name)
            visible.add(heights)
    curves = []
    for i, name in enumerate([*names, ROBUST]):
        percent = {column: 100 * rows[name][column] for column in ("accuracy", "low", "high")}
        colour = BLUE if name == ROBUST else COLOURS[i % len(COLOURS)]
        curves.append(_Curve(measure_label(name), colour, rows[name].assign(**percent), name == ROBUST))
    return curves


def _static(curves: Sequence[_Curve], axis: str) -> Figure:
    figure, (axes,) = style.new_figure(7.6, 5.4)
    style.style_axes(axes)
    for curve in curves:
        rows, (width, size) = curve.rows, (2.4, 6) if curve.worst else (1.3, 4)
        look: dict[str, Any] = {"color": curve.colour, "marker": "o", "lw": width, "ms": size}
        axes.plot(rows["epsilon"], rows["accuracy"], label=curve.label, **look)
        if curve.worst:
            axes.fill_between(rows["epsilon"], rows["low"], rows["high"], color=curve.colour, alpha=0.15, lw=0)
    axes.set(xlabel=axis, ylabel="Accuracy (%)", ylim=(0, 101))
    axes.set_xlim(left=0)
    style.add_legend(figure, axes.lines, 8.5, most=2)
    return figure


def _interactive(curves: Sequence[_Curve], axis: str) -> Any:
    import plotly.graph_objects as go

    page = go.Figure()
    for curve in curves:
        rows = curve.rows
        if curve.worst:
            page.add_scatter(
                x=np.concatenate([rows["epsilon"], rows["epsilon"][::-1]]),
                y=np.concatenate([rows["high"], rows["low"][::-1]]),
                fill="toself",
                fillcolor=style.faded(curve.colour, 0.15),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            )
        page.add_scatter(
            x=rows["epsilon"],
            y=rows["accuracy"],
            customdata=rows[["low", "high"]],
            mode="lines+markers",
            name=curve.label,
            line={"color": curve.colour, "width": 3 if curve.worst else 1.5},
            hovertemplate="%{y:.1f} % [%{customdata[0]:.1f}, %{customdata[1]:.1f}] at %{x:g}",
        )
    page.update_xaxes(title=axis, rangemode="tozero")
    page.update_yaxes(title="Accuracy (%)", range=[0, 101])
    page.update_layout(legend={"orientation": "h", "y": -0.15})
    return page
