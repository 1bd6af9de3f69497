"""Draws the figures of Song, Wang, He and Zhou 2022 from the tables of our experiments, in the paper's style.

The accuracy under the paper's attack and the worst case of the sound evaluation are drawn on the same scale. Every seed
is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis import reproduction
from analysis.condition import GRID_M, GRID_S, PAPER_F, PAPER_S, condition
from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, FAINT, GREY, INK
from analysis.reproduction import ATTACK, CLEAN, WORST

SOURCE: Final = "Source"  # the metadata key of the digest in a PNG
_COLOUR_MAP: Final = "viridis"
_CLASSES: Final = (BLUE, *COLOURS, GREY, INK)
_MOST_GROUPS: Final = 10  # of bars
_VIEW: Final = {"elev": 22.0, "azim": -125.0}

Document = Mapping[str, Any]


def draw(
    name: str, document: Document, table: pd.DataFrame, points: pd.DataFrame | None, digest: str, path: Path
) -> list[Path]:
    """Draws the figure of an experiment. The paper's tables have none.

    Args:
        name: The experiment's name.
        document: The experiment's file, as plain values.
        table: A table made by ``search.results.reproduction``.
        points: The features of an ``embedding``: ``panel``, ``method``, ``label``, ``x``, ``y``, ``z``.
        digest: SHA-256 of the table's file, stored in the picture as its source.
        path: The path of the files, without suffix.

    Returns:
        A PNG, and for an ``embedding`` a page whose panels can be rotated.
    """
    form = document["form"]
    if form == "table":
        return []
    figure = _FORMS[form](document, table, points)
    title = "; ".join(dict.fromkeys(reproduction.networks(rows) for _, rows in table.groupby("panel", sort=False)))
    head, replaced = reproduction.heading(name, document, table), reproduction.replacements(table)
    note = _NOTES[form] + (f" Replaced: {replaced}." if replaced else "")
    style.headline(figure, head, title, note)
    files = [style.save_png(figure, path.with_suffix(".png"), {SOURCE: digest})]
    if form == "embedding" and points is not None:
        files.append(style.save_html(_rotatable(points), path.with_suffix(".html"), title=head, note=title))
    return files


def _bars(document: Document, table: pd.DataFrame, points: pd.DataFrame | None) -> Any:
    """One axes per panel, with groups of bars, one bar per method."""
    del points
    panels = list(table.groupby("panel", sort=False))
    figure, all_axes = style.new_figure(13.0, 3.9 * len(panels) + style.HEADLINE + 0.6, rows=len(panels))
    looks = dict(zip(reversed(table["method"].unique()), _CLASSES, strict=False))
    for axes, (panel, rows) in zip(all_axes, panels, strict=True):
        style.style_axes(axes)
        measured = rows[rows["kind"] == "measured"]
        groups = [(CLEAN, np.nan), *_drawn_attacks(measured, document["panels"][panel])]
        width = 0.8 / len(looks)
        for i, (method, colour) in enumerate(reversed(looks.items())):
            for x, (attack, radius) in enumerate(groups):
                own = measured[measured["method"] == method]
                place = x + (i - (len(looks) - 1) / 2) * width
                label = method if axes is all_axes[0] and x == 0 else None
                _bar(axes, _row(own, ATTACK if attack != CLEAN else CLEAN, attack, radius), place, width, colour, label)
                if attack != CLEAN:
                    _worst(axes, _row(own, WORST, "", radius), place, width)
        titles = [
            CLEAN if attack == CLEAN else f"{attack}\n{radius:.3g} ({_rms(measured, radius)})"
            for attack, radius in groups
        ]
        axes.set_xticks(range(len(groups)), titles, fontsize=7.5)
        axes.set_ylabel(f"Accuracy (%), {reproduction.panel_label(rows)}", color=INK)
        axes.set_ylim(0, 100)
    style.add_legend(figure, all_axes[0].get_legend_handles_labels()[0], 8.5, most=6)
    return figure


def _drawn_attacks(measured: pd.DataFrame, panel: Document) -> list[tuple[str, float]]:
    """Attacks and radii; if there are many, only those with the paper's own radii, which are root mean squares."""
    attacked = measured[measured["evaluation"] == ATTACK].sort_values(["attack", "radius"])
    pairs = list(dict.fromkeys(zip(attacked["attack"], attacked["radius"], strict=True)))
    return pairs if len(pairs) <= _MOST_GROUPS else [pair for pair in pairs if pair[1] not in panel["radii"]["l2"]]


def _row(rows: pd.DataFrame, evaluation: str, attack: str, radius: float) -> dict[Any, Any] | None:
    chosen = rows[rows["evaluation"] == evaluation]
    if evaluation == ATTACK:
        chosen = chosen[chosen["attack"] == attack]
    if evaluation != CLEAN:
        chosen = chosen[chosen["radius"] == radius]
    return None if chosen.empty else chosen.iloc[0].to_dict()


def _rms(measured: pd.DataFrame, radius: float) -> str:
    return f"{measured.loc[measured['radius'] == radius, 'rms'].iloc[0]:.2g}"


def _bar(axes: Any, row: dict[Any, Any] | None, x: float, width: float, colour: str, label: str | None) -> None:
    if row is None:
        return
    axes.bar(x, 100 * row["value"], width, color=colour, alpha=0.45, label=label, lw=0)
    axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, lw=1)
    _seeds(axes, x, row, colour)


def _worst(axes: Any, row: dict[Any, Any] | None, x: float, width: float) -> None:
    if row is None:
        return
    half = 0.45 * width
    axes.plot([x - half, x + half], [100 * row["value"]] * 2, color=INK, lw=1.8, zorder=4)
    axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=INK, lw=0.7, zorder=4)


def _seeds(axes: Any, x: float, row: dict[Any, Any], colour: str) -> None:
    values = [100 * value for value in reproduction.by_seed(row)]
    axes.scatter([x] * len(values), values, s=4, color=colour, zorder=3, lw=0)


def _curves(document: Document, table: pd.DataFrame, points: pd.DataFrame | None) -> Any:
    """Accuracy over the searched parameter, one curve per attack; the worst case is dashed."""
    del points
    panels = list(table.groupby("panel", sort=False))
    figure, all_axes = style.new_figure(10.0, 4.8 * len(panels) + style.HEADLINE, rows=len(panels))
    for axes, (panel, rows) in zip(all_axes, panels, strict=True):
        style.style_axes(axes)
        measured = rows[rows["kind"] == "measured"].copy()
        parameter = measured["setting"].iloc[0].partition("=")[0]
        measured["at"] = [float(setting.rpartition("=")[2]) for setting in measured["setting"]]
        measured = measured.sort_values("at")
        # The paper's radii are root mean squares.
        radii = {
            radius for radius in measured["radius"].dropna() if radius not in document["panels"][panel]["radii"]["l2"]
        }
        _curve(axes, measured[measured["evaluation"] == CLEAN], "#D62728", "-", "clean")
        for i, radius in enumerate(sorted(radii)):
            at = measured[measured["radius"] == radius]
            for j, (attack, own) in enumerate(at[at["evaluation"] == ATTACK].groupby("attack", sort=False)):
                _curve(axes, own, _CLASSES[2 * i + j], "-", f"{attack}, {radius:.3g} ({_rms(measured, radius)})")
            _curve(axes, at[at["evaluation"] == WORST], INK, ("--", ":")[i % 2], f"worst case, {radius:.3g}")
        axes.set_xlabel(f"{parameter}, {reproduction.panel_label(rows)}", color=INK)
        axes.set_ylabel("Accuracy (%)", color=INK)
    style.add_legend(figure, all_axes[0].get_legend_handles_labels()[0], 8.5)
    return figure


def _curve(axes: Any, rows: pd.DataFrame, colour: str, dashes: str, label: str) -> None:
    x = rows["at"].to_numpy()
    axes.plot(x, 100 * rows["value"], color=colour, ls=dashes, lw=1.6, label=label)
    axes.fill_between(x, 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.08, lw=0)
    for row in rows.to_dict("records"):
        _seeds(axes, row["at"], row, colour)
    best = rows.iloc[int(np.argmax(rows["value"].to_numpy()))]
    axes.scatter(best["at"], 100 * best["value"], s=40, facecolor="none", edgecolor=colour, zorder=5)


def _surfaces(document: Document, table: pd.DataFrame, points: pd.DataFrame | None) -> Any:
    """One row per panel: the paper's attack, and the worst case on the same z-axis. Dots are seeds."""
    del points
    panels = list(table.groupby("panel", sort=False))
    figure: Any = style.empty_figure(10.0, 3.6 * len(panels) + style.HEADLINE + 0.2)
    height = figure.get_figheight()
    for i, (panel, rows) in enumerate(panels):
        measured = rows[rows["kind"] == "measured"]
        # The first of the paper's own radii, which are root mean squares.
        radii = document["panels"][panel]["radii"]["l2"]
        radius = next(each for each in measured["radius"].dropna().unique() if each not in radii)
        at = measured[measured["radius"] == radius]
        sides = [at[at["evaluation"] == evaluation] for evaluation in (ATTACK, WORST)]
        values = [
            100 * value for side in sides for row in side.to_dict("records") for value in reproduction.by_seed(row)
        ]
        limits = (max(0.0, min(values) - 2), min(100.0, max(values) + 2))
        bottom = (3.6 * (len(panels) - 1 - i)) / height
        for j, (side, what) in enumerate(zip(sides, (side_title(sides[0]), "worst case"), strict=True)):
            axes = figure.add_axes((0.5 * j, bottom, 0.5, 3.2 / height), projection="3d")
            _surface(axes, side, limits)
            heading = f"{reproduction.panel_label(rows)}\n{what} within {radius:.3g} ({_rms(measured, radius)})"
            place = (0.5 * j + 0.25, bottom + 3.3 / height)
            figure.text(*place, heading, ha="center", size=8.5, weight="bold", color=INK)
    return figure


def side_title(rows: pd.DataFrame) -> str:
    """The label of the attack in the rows."""
    return str(rows["attack"].iloc[0])


def _surface(axes: Any, rows: pd.DataFrame, limits: tuple[float, float]) -> None:
    values = [dict(part.split("=") for part in setting.split(", ")) for setting in rows["setting"]]
    s, m = (np.array([float(value[name]) for value in values]) for name in ("s", "m"))
    z = 100 * rows["value"].to_numpy()
    axes.view_init(**_VIEW)
    axes.computed_zorder = False
    grid = pd.DataFrame({"s": s, "m": m, "z": z}).pivot_table(index="m", columns="s", values="z")
    mesh = np.meshgrid(grid.columns.to_numpy(), grid.index.to_numpy())
    axes.plot_surface(
        *mesh,
        grid.to_numpy(),
        cmap=_COLOUR_MAP,
        vmin=limits[0],
        vmax=limits[1],
        alpha=0.75,
        lw=0.4,
        edgecolor="white",
        zorder=1,
    )
    for x, y, row in zip(s, m, rows.to_dict("records"), strict=True):
        seeds = [100 * value for value in reproduction.by_seed(row)]
        axes.plot([x, x], [y, y], [min(seeds), max(seeds)], color=INK, lw=0.5, alpha=0.5, zorder=2)
        axes.scatter([x] * len(seeds), [y] * len(seeds), seeds, s=5, color=INK, depthshade=False, lw=0, zorder=3)
    axes.set(zlim=limits, xlabel="s", ylabel="m")
    _style_3d_axes(axes)
    axes.zaxis.set_major_formatter(lambda value, _: f"{value:g} %")


def _style_3d_axes(axes: Any) -> None:
    axes.tick_params(labelsize=7, colors=INK, pad=0)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))


def _condition(document: Document, table: pd.DataFrame, points: pd.DataFrame | None) -> Any:
    """z(s, m) with the paper's constants, and with the means of the trained networks of each panel."""
    del document, points
    networks = table[table["kind"] == "network"]
    panels = [("the paper's constants", PAPER_F, PAPER_S, "")]
    for _, rows in networks.groupby("panel", sort=False):
        values = dict(zip(rows["evaluation"], map(float, rows["value"]), strict=True))
        note = f"; above 0 on {100 * values['condition']:.1f} % of images"
        panels.append((reproduction.panel_label(rows), values["f_true"], values["others"], note))
    figure: Any = style.empty_figure(4.6 * len(panels), 4.4 + style.HEADLINE)
    height = figure.get_figheight()
    mesh = np.meshgrid(np.linspace(1, 2, 21), np.linspace(0, 0.1, 21))
    surfaces = [condition(f, others, *mesh) for _, f, others, _ in panels]
    limits = (min(0.0, *(each.min() for each in surfaces)), max(each.max() for each in surfaces))
    for i, ((name, f, others, about), z) in enumerate(zip(panels, surfaces, strict=True)):
        axes = figure.add_axes((i / len(panels), 0.02, 1 / len(panels), 3.9 / height), projection="3d")
        axes.view_init(**_VIEW)
        axes.plot_surface(*mesh, z, cmap=_COLOUR_MAP, vmin=limits[0], vmax=limits[1], lw=0)
        axes.plot_surface(*mesh, np.zeros_like(z), color=FAINT, alpha=0.15, lw=0)
        axes.set(zlim=limits, xlabel="s", ylabel="m")
        _style_3d_axes(axes)
        text = f"{name}: f = {f:.2f}, S = {others:.2f}\nsmallest z: {_smallest(f, others):.2g}{about}"
        figure.text((i + 0.5) / len(panels), 4.0 / height, text, ha="center", size=8.5, weight="bold", color=INK)
    return figure


def _smallest(f: float, others: float) -> float:
    mesh = np.meshgrid(GRID_S, GRID_M)
    return float(condition(f, others, *mesh).min())


def _embedding(document: Document, table: pd.DataFrame, points: pd.DataFrame | None) -> Any:
    """One 3D axes per panel and method, one colour per class."""
    del document
    assert points is not None
    panels, methods = points["panel"].unique(), points["method"].unique()
    figure: Any = style.empty_figure(3.0 * len(methods), 3.3 * len(panels) + style.HEADLINE + 0.2)
    height = figure.get_figheight()
    networks = table[table["kind"] == "network"]
    for (panel, method), own in points.groupby(["panel", "method"], sort=False):
        row, column = list(panels).index(panel), list(methods).index(method)
        bottom = (3.3 * (len(panels) - 1 - row) + 0.15) / height
        axes = figure.add_axes((column / len(methods), bottom, 1 / len(methods), 2.7 / height), projection="3d")
        colours = [_CLASSES[label % len(_CLASSES)] for label in own["label"]]
        axes.scatter(own["x"], own["y"], own["z"], c=colours, s=3, depthshade=False, lw=0)
        _style_3d_axes(axes)
        measured = networks[(networks["panel"] == panel) & (networks["method"] == method)]
        scores = measured.set_index("evaluation")["value"]
        separation = f"silhouette {scores['silhouette']:.2f}, at unit length {scores['angular_silhouette']:.2f}"
        text = f"{method}, {reproduction.panel_label(measured)}\n{separation}"
        place = ((column + 0.5) / len(methods), bottom + 2.74 / height)
        figure.text(*place, text, ha="center", size=7.5, weight="bold", color=INK)
    return figure


def _rotatable(points: pd.DataFrame) -> Any:
    """The same panels in plotly, where they can be rotated."""
    from plotly.graph_objects import Scatter3d
    from plotly.subplots import make_subplots

    panels, methods = list(points["panel"].unique()), list(points["method"].unique())
    titles = [f"{method}, {panel}" for panel in panels for method in methods]
    kinds = [[{"type": "scene"}] * len(methods)] * len(panels)
    page = make_subplots(len(panels), len(methods), specs=kinds, subplot_titles=titles, horizontal_spacing=0.01)
    for (panel, method), own in points.groupby(["panel", "method"], sort=False):
        marker = {"size": 2, "color": [_CLASSES[label % len(_CLASSES)] for label in own["label"]]}
        trace = Scatter3d(x=own["x"], y=own["y"], z=own["z"], mode="markers", marker=marker, text=own["label"])
        page.add_trace(trace, row=panels.index(panel) + 1, col=methods.index(method) + 1)
    page.update_layout(showlegend=False, template="plotly_white")
    return page


_FORMS: Final[Mapping[str, Callable[[Document, pd.DataFrame, pd.DataFrame | None], Any]]] = {
    "bars": _bars,
    "curves": _curves,
    "surfaces": _surfaces,
    "condition": _condition,
    "embedding": _embedding,
}
_NOTES: Final[Mapping[str, str]] = {
    "bars": "Bars: the paper's attack. Dots: seeds. Lines: 95 % intervals. Black: the worst case.",
    "curves": "Dots: seeds. Bands: 95 % intervals. Circles: the largest value of a curve. Black: the worst case.",
    "surfaces": "Surface: the measured grid, without a fit. Dots: seeds. Left: the paper's attack. Right: worst case.",
    "condition": "z compares two losses at one fixed f, so it implies nothing about robustness. Grey: z = 0.",
    "embedding": "Clean validation images of one network, one colour per class. Silhouettes: means of all networks.",
}
