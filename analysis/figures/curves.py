"""Curves: the epochs of a training, the hypervolume over a search, and accuracy over the radius."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, INK, Array, Picture
from analysis.frames import rows_of
from analysis.hypervolume import Reference
from trainables.metrics import ROBUST, is_accuracy
from trainables.settings.space import Domain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ORDER: Final = "Complete trials, in the order of finishing"
_DASHES: Final = {"-": "solid", "-.": "dashdot", "--": "dash"}  # plotly's name of each of matplotlib's


@dataclass(frozen=True)
class _Curve:
    """A learning curve, or a measure over the radius; accuracies in percent."""

    label: str
    rows: pd.DataFrame
    colour: str
    thick: bool  # a baseline, or the worst case
    dashes: str = "-"


def draw_learning_curves(
    epochs: pd.DataFrame, frame: pd.DataFrame, domains: Mapping[str, Domain], folder: Path, *, title: str
) -> list[Path]:
    """Writes ``learning_curves_picture`` to a folder."""
    return learning_curves_picture(epochs, frame, domains, title=title).save(folder / "learning-curves")


def learning_curves_picture(
    epochs: pd.DataFrame, frame: pd.DataFrame, domains: Mapping[str, Domain], *, title: str
) -> Picture:
    """Every metric over the epochs: the search's trials as thin lines, the baselines as thick ones.

    ``epochs`` has one row per epoch of a trial, at least one: number, epoch, and one column per metric (fractions for
    accuracies). Pruned and failed trials are dashed.
    """
    metrics = [name for name in epochs.columns if name not in ("number", "epoch")]
    percent = {name: 100 * epochs[name] for name in metrics if is_accuracy(name)}
    curves = _learning_curves(epochs.assign(**percent), frame, domains)
    return Picture(
        _static_learning_curves(curves, metrics),
        _interactive_learning_curves(curves, metrics),
        heading="Learning curves",
        title=title,
        note="Each setting's loss is its own: compare the shapes of the curves, not their heights.",
    )


def _learning_curves(epochs: pd.DataFrame, frame: pd.DataFrame, domains: Mapping[str, Domain]) -> list[_Curve]:
    """The search's curves, then the baselines', which are so drawn on top."""
    rows = {str(row["number"]): row for row in rows_of(frame)}
    baselines = [number for number, row in rows.items() if row["kind"] == "baseline"]
    curves = []
    for number, own in epochs.groupby("number", sort=False):
        row, label, colour, dashes = rows[str(number)], style.trial_label(rows[str(number)], domains), BLUE, "-"
        if number in baselines:
            again, index = divmod(baselines.index(str(number)), len(COLOURS))
            colour, dashes = COLOURS[index], "-." if again else "-"
        if row["state"] in ("pruned", "failed"):
            label, dashes = f"{label}, {row['state']}", "--"
        curves.append(_Curve(label, own.sort_values("epoch"), colour, number in baselines, dashes))
    return sorted(curves, key=lambda curve: curve.thick)


def _metric_label(metric: str) -> str:
    return style.measure_label(metric) + (" (%)" if is_accuracy(metric) else "")


def _static_learning_curves(curves: Sequence[_Curve], metrics: Sequence[str]) -> Figure:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

    figure, grid = style.new_figure(3.9 * len(metrics), 4.4, 1, len(metrics))
    for metric, axes in zip(metrics, grid, strict=True):
        for curve in curves:
            width, alpha, order = (2.0, 1.0, 3) if curve.thick else (0.9, 0.35, 2)
            look: dict[str, Any] = {"color": curve.colour, "lw": width, "alpha": alpha, "zorder": order}
            axes.plot(curve.rows["epoch"], curve.rows[metric], ls=curve.dashes, **look)
        style.style_axes(axes)
        axes.set_title(_metric_label(metric), fontsize=10, loc="left", color=INK)
        axes.set_xlabel("Epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if "loss" in metric:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_locator(NullLocator())
    handles = [Line2D([], [], color=BLUE, lw=1.2, alpha=0.6, label="search")]
    if any(curve.dashes == "--" for curve in curves):
        handles.append(Line2D([], [], color=BLUE, lw=1.2, alpha=0.6, ls="--", label="pruned or failed"))
    baselines = [curve for curve in curves if curve.thick]
    handles += [Line2D([], [], color=each.colour, ls=each.dashes, lw=2, label=each.label) for each in baselines]
    style.add_legend(figure, handles, 9)
    return figure


def _interactive_learning_curves(curves: Sequence[_Curve], metrics: Sequence[str]) -> Any:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    page = make_subplots(cols=len(metrics), subplot_titles=[_metric_label(metric) for metric in metrics])
    for column, metric in enumerate(metrics, start=1):
        for curve in curves:
            width, opacity, rank = (3, 1.0, 1) if curve.thick else (1.2, 0.5, 2)
            trace = go.Scatter(
                x=curve.rows["epoch"],
                y=curve.rows[metric],
                mode="lines",
                name=html.escape(curve.label),
                legendgroup=curve.rows["number"].iloc[0],
                legendrank=rank,
                showlegend=column == 1,
                line={"color": curve.colour, "width": width, "dash": _DASHES[curve.dashes]},
                opacity=opacity,
            )
            page.add_trace(trace, row=1, col=column)
        if "loss" in metric:
            page.update_yaxes(type="log", dtick="D2", row=1, col=column)
        page.update_xaxes(title="Epoch", row=1, col=column)
    page.update_layout(margin={"t": 120})
    return page


def draw_hypervolume(trace: pd.DataFrame, folder: Path, *, title: str, reference: Reference) -> list[Path]:
    """Writes ``hypervolume_picture`` to a folder."""
    return hypervolume_picture(trace, title=title, reference=reference).save(folder / "hypervolume")


def hypervolume_picture(trace: pd.DataFrame, *, title: str, reference: Reference) -> Picture:
    """The result of ``hypervolume_trace``: how the front's hypervolume, measured from the reference, grew.

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
    return Picture(
        _static_hypervolume(volume),
        _interactive_hypervolume(trace, volume),
        heading="Hypervolume of the front",
        title=title,
        note=f"Measured: {', '.join(axes)}.",
    )


def _static_hypervolume(volume: Array) -> Figure:
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


def _interactive_hypervolume(trace: pd.DataFrame, volume: Array) -> Any:
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


def draw_epsilon_curves(accuracies: pd.DataFrame, folder: Path, *, title: str, axis: str) -> list[Path]:
    """Draws accuracy against the radius, for each attack and for the worst case over all of them.

    Args:
        accuracies: One row per measure (``robust_accuracy``, ``ATTACK/VIEW``) and radius: ``measure``, ``epsilon`` (0
            for the clean images), ``accuracy``, ``low``, ``high``; fractions in [0, 1].
        axis: The label of the x-axis: what an epsilon is, with its norm.

    Source:
        Carlini et al. 2019, "On evaluating adversarial robustness": it must fall to 0 as the radius grows,
        or the attack is to blame.
    """
    curves = _epsilon_curves(accuracies)
    return Picture(
        _static_epsilon_curves(curves, axis),
        _interactive_epsilon_curves(curves, axis),
        heading="Accuracy against the radius",
        title=title,
        note="Worst case: the share of images that no attack on any view breaks; band: its 95 % interval.",
    ).save(folder / "epsilon-curves")


def _epsilon_curves(accuracies: pd.DataFrame) -> list[_Curve]:
    """The curve of each measure; the worst case comes last, on top.

    A curve that lies under another is left out, as of an attack that has the same effect on every view.
    """
    ordered = accuracies.sort_values("epsilon", kind="stable")
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
        curves.append(_Curve(style.measure_label(name), rows[name].assign(**percent), colour, name == ROBUST))
    return curves


def _static_epsilon_curves(curves: Sequence[_Curve], axis: str) -> Figure:
    figure, (axes,) = style.new_figure(7.6, 5.4)
    style.style_axes(axes)
    for curve in curves:
        rows, (width, size) = curve.rows, (2.4, 6) if curve.thick else (1.3, 4)
        look: dict[str, Any] = {"color": curve.colour, "marker": "o", "lw": width, "ms": size}
        axes.plot(rows["epsilon"], rows["accuracy"], label=curve.label, **look)
        if curve.thick:
            axes.fill_between(rows["epsilon"], rows["low"], rows["high"], color=curve.colour, alpha=0.15, lw=0)
    axes.set(xlabel=axis, ylabel="Accuracy (%)", xlim=(0, None), ylim=(0, 101))
    style.add_legend(figure, axes.lines, 8.5, most=2)
    return figure


def _interactive_epsilon_curves(curves: Sequence[_Curve], axis: str) -> Any:
    import plotly.graph_objects as go

    page = go.Figure()
    for curve in curves:
        rows = curve.rows
        if curve.thick:
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
            line={"color": curve.colour, "width": 3 if curve.thick else 1.5},
            hovertemplate="%{y:.1f} % [%{customdata[0]:.1f}, %{customdata[1]:.1f}] at %{x:g}",
        )
    page.update_xaxes(title=axis, rangemode="tozero")
    page.update_yaxes(title="Accuracy (%)", range=[0, 101])
    page.update_layout(legend={"orientation": "h", "y": -0.15})
    return page
