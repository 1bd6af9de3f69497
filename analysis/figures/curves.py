"""The learning curves of a run."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, INK
from analysis.frames import rows_of
from trainables.metrics import is_accuracy
from trainables.settings.space import Domain

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Curve:
    """A trial's epochs, accuracies in percent."""

    number: str
    label: str
    epochs: pd.DataFrame
    baseline: bool
    colour: str
    unfinished: bool


def draw_learning_curves(
    epochs: pd.DataFrame, frame: pd.DataFrame, domains: Mapping[str, Domain], folder: Path, *, title: str
) -> list[Path]:
    """Draws every metric over the epochs: the search's trials as thin lines, the baselines as thick ones.

    Args:
        epochs: One row per epoch of a trial, at least one: number, epoch, and one column per metric (fractions for
            accuracies).
        frame: The table made by ``frames.to_frame`` of the same trials. Pruned and failed ones are dashed.
        domains: The searched parameters, which name a setting.
        folder: Where ``learning-curves.png`` and ``learning-curves.html`` go.
        title: What was trained.

    Returns:
        The two files.
    """
    metrics = [name for name in epochs.columns if name not in ("number", "epoch")]
    percent = {name: 100 * epochs[name] for name in metrics if is_accuracy(name)}
    curves = _curves(epochs.assign(**percent), frame, domains)
    return style.save(
        _static(curves, metrics),
        _interactive(curves, metrics),
        folder / "learning-curves",
        heading="Learning curves",
        title=title,
        note="Each setting's loss is its own: compare the shapes of the curves, not their heights.",
    )


def _curves(epochs: pd.DataFrame, frame: pd.DataFrame, domains: Mapping[str, Domain]) -> list[_Curve]:
    """The search's curves, then the baselines', which are so drawn on top."""
    rows = {str(row["number"]): row for row in rows_of(frame)}
    baselines = [number for number, row in rows.items() if row["kind"] == "baseline"]
    curves = []
    for key, own in epochs.groupby("number", sort=False):
        number, row = str(key), rows[str(key)]
        baseline = number in baselines
        colour = COLOURS[baselines.index(number) % len(COLOURS)] if baseline else BLUE
        unfinished = row["state"] in ("pruned", "failed")
        label = style.trial_label(row, domains) + (f", {row['state']}" if unfinished else "")
        curves.append(_Curve(number, label, own.sort_values("epoch"), baseline, colour, unfinished))
    return sorted(curves, key=lambda curve: curve.baseline)


def _label(metric: str) -> str:
    return style.measure_label(metric) + (" (%)" if is_accuracy(metric) else "")


def _static(curves: Sequence[_Curve], metrics: Sequence[str]) -> Figure:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    figure, grid = style.new_figure(3.9 * len(metrics), 4.4, 1, len(metrics))
    for metric, axes in zip(metrics, grid, strict=True):
        for curve in curves:
            axes.plot(
                curve.epochs["epoch"],
                curve.epochs[metric],
                color=curve.colour,
                lw=2.0 if curve.baseline else 0.9,
                alpha=1.0 if curve.baseline else 0.35,
                ls="--" if curve.unfinished else "-",
                zorder=3 if curve.baseline else 2,
            )
        style.style_axes(axes)
        axes.set_title(_label(metric), fontsize=10, loc="left", color=INK)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if "loss" in metric:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_locator(NullLocator())
    handles = [Line2D([], [], color=BLUE, lw=1.2, alpha=0.6, label="search")]
    if any(curve.unfinished for curve in curves):
        handles.append(Line2D([], [], color=BLUE, lw=1.2, alpha=0.6, ls="--", label="pruned or failed"))
    handles += [Line2D([], [], color=curve.colour, lw=2, label=curve.label) for curve in curves if curve.baseline]
    style.add_legend(figure, handles, 9)
    return figure


def _interactive(curves: Sequence[_Curve], metrics: Sequence[str]) -> Any:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    page = make_subplots(cols=len(metrics), subplot_titles=[_label(metric) for metric in metrics])
    for column, metric in enumerate(metrics, start=1):
        for curve in curves:
            dash = "dash" if curve.unfinished else "solid"
            trace = go.Scatter(
                x=curve.epochs["epoch"],
                y=curve.epochs[metric],
                mode="lines",
                name=html.escape(curve.label),
                legendgroup=curve.number,
                legendrank=1 if curve.baseline else 2,
                showlegend=column == 1,
                line={"color": curve.colour, "width": 3 if curve.baseline else 1.2, "dash": dash},
                opacity=1.0 if curve.baseline else 0.5,
            )
            page.add_trace(trace, row=1, col=column)
        if "loss" in metric:
            page.update_yaxes(type="log", dtick="D2", row=1, col=column)
        page.update_xaxes(title="Epoch", row=1, col=column)
    page.update_layout(margin={"t": 120})
    return page
