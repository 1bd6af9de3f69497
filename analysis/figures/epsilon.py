"""Accuracy against the radius of the ball, for each attack and for the worst case over all of them.

Carlini et al. 2019, "On evaluating adversarial robustness", section 4.3: it must fall to 0 as the radius grows, or the
attack is to blame.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.figures.style import (
    BLUE,
    INK,
    faded,
    headline,
    measure_label,
    new_figure,
    save_html,
    save_png,
    style_axes,
    title_page,
)
from trainables.metrics import ROBUST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the attacks; the worst case is blue.
_COLOURS: Final = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A9099", "#5B6470", "#222831")
_HEADING: Final = "Accuracy against the radius"
_NOTE: Final = "Worst case: the share of images that no attack on any view breaks; band: its 95 % interval."


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

    Raises:
        ValueError: The frame has no row for the worst case.
    """
    if ROBUST not in set(frame["measure"]):
        raise ValueError(f"frame must hold rows of {ROBUST}, got {sorted(set(frame['measure']))}; add them")
    return [
        save_png(_static(frame, title, axis), folder / "epsilon-curves.png"),
        save_html(
            _interactive(frame, title, axis), folder / "epsilon-curves.html", title=f"{_HEADING}, {title}", note=_NOTE
        ),
    ]


def _curves(frame: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Label, colour and rows (in percent) of each measure; the worst case comes last, on top.

    A curve that lies under another is left out, as of an attack that has the same effect on every view.
    """
    heights = {
        str(name): tuple(rows.sort_values("epsilon")["accuracy"]) for name, rows in frame.groupby("measure", sort=False)
    }
    names = [
        name
        for i, name in enumerate(heights)
        if name != ROBUST and heights[name] not in (*list(heights.values())[:i], heights[ROBUST])
    ]
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(names))]
    curves = []
    for name, colour in [*zip(names, colours, strict=True), (ROBUST, BLUE)]:
        rows = frame[frame["measure"] == name].sort_values("epsilon")
        percent = {column: 100 * rows[column] for column in ("accuracy", "low", "high")}
        curves.append((measure_label(name), colour, rows.assign(**percent)))
    return curves


def _static(frame: pd.DataFrame, title: str, axis: str) -> Figure:
    figure, axes = new_figure(7.6, 5.4)
    style_axes(axes)
    for label, colour, rows in _curves(frame):
        worst = rows["measure"].iloc[0] == ROBUST
        width, size = (2.4, 6) if worst else (1.3, 4)
        axes.plot(rows["epsilon"], rows["accuracy"], color=colour, marker="o", label=label, lw=width, ms=size)
        if worst:
            axes.fill_between(rows["epsilon"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
    axes.set_xlabel(axis)
    axes.set_ylabel("Accuracy (%)")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 101)
    axes.tick_params(colors=INK)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    headline(figure, _HEADING, title, _NOTE)
    return figure


def _interactive(frame: pd.DataFrame, title: str, axis: str) -> Any:
    import plotly.graph_objects as go

    page = go.Figure()
    for label, colour, rows in _curves(frame):
        worst = rows["measure"].iloc[0] == ROBUST
        if worst:
            page.add_scatter(
                x=np.concatenate([rows["epsilon"], rows["epsilon"][::-1]]),
                y=np.concatenate([rows["high"], rows["low"][::-1]]),
                fill="toself",
                fillcolor=faded(colour, 0.15),
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            )
        page.add_scatter(
            x=rows["epsilon"],
            y=rows["accuracy"],
            customdata=rows[["low", "high"]],
            mode="lines+markers",
            name=label,
            line={"color": colour, "width": 3 if worst else 1.5},
            hovertemplate="%{y:.1f} % [%{customdata[0]:.1f}, %{customdata[1]:.1f}] at %{x:g}",
        )
    page.update_xaxes(title=axis, rangemode="tozero")
    page.update_yaxes(title="Accuracy (%)", range=[0, 101])
    title_page(page, _HEADING, title)
    page.update_layout(legend={"orientation": "h", "y": -0.15})
    return page
