"""The learning curves of a run."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from analysis.figures.style import (
    BASELINE_COLOURS,
    BLUE,
    INK,
    headline,
    legend_columns,
    measure_label,
    new_figure_grid,
    save_html,
    save_png,
    setting_label,
    style_axes,
    title_page,
)
from analysis.frames import rows_of
from trainables.settings.space import Domain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADING: Final = "Learning curves"
_NOTE: Final = "Each setting's loss is its own: compare the shapes of the curves, not their heights."


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
        epochs: One row per epoch of a trial: number, epoch, and one column per metric (fractions for accuracies).
        frame: The table made by ``frames.to_frame`` of the same trials. Pruned and failed ones are dashed.
        domains: The searched parameters, which name a setting.
        folder: Where ``learning-curves.png`` and ``learning-curves.html`` go.
        title: What was trained.

    Returns:
        The two files.

    Raises:
        ValueError: There is no epoch.
    """
    if epochs.empty:
        raise ValueError("epochs must hold at least one, got none; let one finish first")
    metrics = [name for name in epochs.columns if name not in ("number", "epoch")]
    curves = _curves(epochs, frame, metrics, domains)
    return [
        save_png(_static(curves, metrics, title), folder / "learning-curves.png"),
        save_html(
            _interactive(curves, metrics, title),
            folder / "learning-curves.html",
            title=f"{_HEADING}, {title}",
            note=_NOTE,
        ),
    ]


def _curves(
    epochs: pd.DataFrame, frame: pd.DataFrame, metrics: Sequence[str], domains: Mapping[str, Domain]
) -> list[_Curve]:
    """The search's curves, then the baselines', which are so drawn on top."""
    baselines = [str(number) for number in frame.loc[frame["kind"] == "baseline", "number"]]
    rows = {str(row["number"]): row for row in rows_of(frame)}
    percent = epochs.assign(**{name: 100 * epochs[name] for name in metrics if "accuracy" in name})
    curves = []
    for key, own in percent.groupby("number", sort=False):
        number, row = str(key), rows[str(key)]
        baseline = number in baselines
        colour = BASELINE_COLOURS[baselines.index(number) % len(BASELINE_COLOURS)] if baseline else BLUE
        label = f"{number}: {setting_label(row, domains)}"
        unfinished = row["state"] in ("pruned", "failed")
        label += f", {row['state']}" if unfinished else ""
        curves.append(_Curve(number, label, own.sort_values("epoch"), baseline, colour, unfinished))
    return sorted(curves, key=lambda curve: curve.baseline)


def _label(metric: str) -> str:
    return measure_label(metric) + (" (%)" if "accuracy" in metric else "")


def _static(curves: Sequence[_Curve], metrics: Sequence[str], title: str) -> Figure:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    figure, grid = new_figure_grid(3.9 * len(metrics), 4.4, 1, len(metrics))
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
        style_axes(axes)
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
    baselines = [curve for curve in curves if curve.baseline]
    handles += [Line2D([], [], color=curve.colour, lw=2, label=curve.label) for curve in baselines]
    columns = legend_columns([str(handle.get_label()) for handle in handles], figure.get_figwidth(), 9)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    headline(figure, _HEADING, title, _NOTE)
    return figure


def _interactive(curves: Sequence[_Curve], metrics: Sequence[str], title: str) -> Any:
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
    title_page(page, _HEADING, title)
    page.update_layout(margin={"t": 120})
    return page
