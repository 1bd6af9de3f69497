"""The leaderboard of a comparison of methods: the picture of their joint front, and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from analysis.figures import style
from analysis.figures.style import BLUE, COLOURS, GREY
from trainables.metrics import CLEAN, ROBUST

_STYLES: Final = [(colour, marker) for marker in "osD^v" for colour in (BLUE, *COLOURS)]


def draw(document: Mapping[str, Any], path: Path) -> Path:
    """Draws the settings of all methods over clean and robust accuracy as a PNG.

    Args:
        document: The content of a ``leaderboard.json``.
        path: The file.
    """
    return style.save_png(_figure(document), path)


def page(document: Mapping[str, Any]) -> str:
    """The leaderboard as an HTML page that needs no other file; the argument as for `draw`."""
    methods = [row["method"] for row in document["rows"] if row["represents"]]
    return style.render(
        "leaderboard.html",
        board=document,
        title=title(document),
        note=note(document),
        methods=methods,
        differences={name: _matrix(document["differences"], name, methods) for name in (ROBUST, CLEAN)},
        costs={method["method"]: method for method in document["methods"]},
        picture=style.svg(_figure(document)),
    )


def title(document: Mapping[str, Any]) -> str:
    """The title: what was measured."""
    setup = document["setup"]
    tuned = "reference settings, not tuned" if document["profile"] == "quick" else f"{setup['units']} units per method"
    radius = f"{setup['norm']} = {setup['radii'][0]:g}"
    return f"{document['name']}: {setup['model']} on {setup['data']}, {setup['epochs']} epochs; {radius}; {tuned}"


def note(document: Mapping[str, Any]) -> str:
    """The caption: how to read the picture."""
    rows = document["rows"]
    audited = {f"{row['audited_seeds']} of {row['seeds']}" for row in rows}
    seeds = "/".join(sorted(audited))
    return (
        f"Robust accuracy: the worst case over the sweep's attacks, minus the loss under the audit of {seeds} seeds. "
        "Bars: 95 % intervals of the claimed accuracy over seeds and images. Hollow: not audited."
    )


def _figure(document: Mapping[str, Any]) -> Any:
    figure, (axes,) = style.new_figure(7.6, 5.2)
    style.style_axes(axes)
    rows = document["rows"]
    styles = dict(zip([method["method"] for method in document["methods"]], _STYLES, strict=False))
    radius = f"{document['setup']['radii'][0]:g}"
    for row in rows:
        colour, marker = styles[row["method"]]
        x, y, claim = 100 * row["clean"]["value"], 100 * row["robust"], row["claimed"][radius]
        bars: Any = {
            "xerr": [[x - 100 * row["clean"]["low"]], [100 * row["clean"]["high"] - x]],
            "yerr": [[100 * (claim["value"] - claim["low"])], [100 * (claim["high"] - claim["value"])]],
        }
        axes.errorbar(x, y, **bars, color=colour, alpha=0.35, lw=1, zorder=2)
        face = colour if row["audited_seeds"] else "none"
        label = row["method"] if row["represents"] else None
        axes.scatter(x, y, s=60, marker=marker, facecolor=face, edgecolor=colour, label=label, zorder=3)
    front = sorted((100 * row["clean"]["value"], 100 * row["robust"]) for row in rows if row["on_front"])
    axes.step(*zip(*front, strict=True), where="pre", color=GREY, lw=1.4, ls="--", zorder=1, label="joint front")
    axes.set_xlabel("Clean accuracy (%)")
    axes.set_ylabel("Robust accuracy (%)")
    style.headline(figure, "Methods compared", title(document), note(document))
    style.add_legend(figure, axes.get_legend_handles_labels()[0], 9, most=4)
    return figure


def _matrix(
    differences: Sequence[Mapping[str, Any]], name: str, methods: Sequence[str]
) -> list[tuple[str, list[Mapping[str, Any] | None]]]:
    """Each method's differences from every other one, positive where it is better."""
    cells: dict[tuple[str, str], Mapping[str, Any]] = {}
    for difference in differences:
        if difference["objective"] == name:
            cells[difference["first"], difference["second"]] = difference
            reverse = {"mean": -difference["mean"], "low": -difference["high"], "high": -difference["low"]}
            cells[difference["second"], difference["first"]] = {**difference, **reverse}
    return [(row, [cells.get((row, column)) for column in methods]) for row in methods]
