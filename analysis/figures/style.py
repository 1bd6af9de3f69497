"""What all pictures share: colours, labels, empty figures, and writing them as PNG and as an offline HTML page.

Matplotlib is used through ``Figure`` alone, so that nothing needs a display or touches global state. The colours are
those of Okabe and Ito, which people with any colour vision can tell apart.
"""

from __future__ import annotations

import html
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.frames import images_of
from analysis.pages import render
from analysis.records import value_text
from trainables import files, metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

BLUE: Final = "#0072B2"
GREY: Final = "#8A9099"
INK: Final = "#222831"
FAINT: Final = "#5B6470"
RULE: Final = "#E3E6EA"
BASELINE_COLOURS: Final = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")
DOTS_PER_INCH: Final = 150
HEADLINE: Final = 0.9  # inches: a heading, a title, two lines of a note
CHARACTERS_AN_INCH: Final = 17  # of the note
_HANDLE: Final = 6  # characters that a legend's symbol is as wide as


@dataclass(frozen=True)
class Scale:
    """How the values of a measure are shown: fractions of images in percent, everything else as it is."""

    factor: float
    unit: str
    style: str

    def text(self, value: float) -> str:
        """A value for people."""
        return f"{self.factor * value:{self.style}}{self.unit}"


def scale_of(frame: pd.DataFrame, measure: str) -> Scale:
    """The scale of a measured column of a table made by ``frames.to_frame``."""
    return Scale(1.0, "", ".4g") if images_of(frame, measure) is None else Scale(100.0, " %", ".1f")


def measure_label(measure: str) -> str:
    """A measure's name for people, e.g. ``pgd50-ce, normalized logits`` for ``pgd50-ce/normalized``."""
    one_attack = metrics.split_attack(measure)
    if one_attack is not None:
        attack, view = one_attack
        return f"{attack}, worst view" if view == metrics.WORST_VIEW else f"{attack}, {view} logits"
    if metrics.is_under_attack(measure):
        radius = metrics.radius_of(measure)
        return "Robust accuracy, worst case" + (f" within {radius}" if radius else "")
    return measure.replace("_", " ").capitalize()


def complete(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The complete trials of a kind (``search`` or ``baseline``) in a table made by ``frames.to_frame``."""
    return frame[(frame["kind"] == kind) & (frame["state"] == "complete")].reset_index(drop=True)


def sentences(parts: Iterable[str]) -> str:
    """The parts that are not empty, as one text."""
    return " ".join(filter(None, parts))


def left_out(frame: pd.DataFrame) -> str:
    """A sentence on the trials that a picture leaves out; empty if there are none."""
    counts = [(state, int((frame["state"] == state).sum())) for state in ("pruned", "failed", "running")]
    parts = [f"{count} {state}" for state, count in counts if count]
    return f"Not shown: {', '.join(parts)}." if parts else ""


def replicates_note(frame: pd.DataFrame) -> str:
    """A sentence on the replicates behind the values of complete trials; empty if all have the same number."""
    counts = frame.loc[frame["state"] == "complete", "replicates"].dropna()
    if counts.nunique() < 2:
        return ""
    few, many = int(counts.min()), int(counts.max())
    return f"Means over {few} to {many} replicates: {int((counts == many).sum())} of {len(counts)} over {many}."


def setting_label(row: Mapping[Any, Any], parameters: Iterable[str]) -> str:
    """A setting for people, e.g. ``i-sce + adversarial-training s=1, m=0``; missing parameters are left out.

    Args:
        row: A row of a table made by ``frames.to_frame``.
        parameters: The parameters to show.
    """
    method = row["loss"] if row["defence"] == "none" else f"{row['loss']} + {row['defence']}"
    values = [f"{name}={value_text(row[name])}" for name in parameters if name in row and not pd.isna(row[name])]
    return f"{method} {', '.join(values)}".rstrip()


def hover_text(row: Mapping[Any, Any], parameters: Iterable[str], names: Sequence[str], scales: Sequence[Scale]) -> str:
    """What an interactive picture says about a trial: number, setting, each measure with its interval, replicates."""
    lines = [f"<b>#{row['number']}</b> {html.escape(setting_label(row, parameters))}"]
    for name, scale in zip(names, scales, strict=True):
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        bracket = "" if math.isnan(low) else f" [{scale.text(low)}, {scale.text(high)}]"
        lines.append(f"{measure_label(name)}: {scale.text(row[name])}{bracket}")
    if not pd.isna(row["replicates"]) and row["replicates"] > 1:
        lines.append(f"means over {row['replicates']} replicates")
    return "<br>".join(lines)


def empty_figure(width: float, height: float) -> Figure:
    """A figure without panels; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure with one panel; sizes in inches."""
    figure, axes = new_figure_grid(width, height, 1, 1)
    return figure, axes[0]


def new_figure_grid(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """An empty figure with a grid of panels, and the panels row by row; sizes in inches."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = empty_figure(width, height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.005, 0.005, 0.985, 0.985 - HEADLINE / height)))
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def style_axes(axes: Axes) -> None:
    """Gives axes two spines and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=RULE, lw=0.8)
    axes.set_axisbelow(True)


def headline(figure: Figure, heading: str, title: str, note: str) -> None:
    """Writes a heading, what was measured, and how to read it into the top ``HEADLINE`` inches of a figure."""
    height = figure.get_figheight()
    wrapped = textwrap.fill(note, int(CHARACTERS_AN_INCH * figure.get_figwidth()))
    lines = ((heading, 0.12, 13, "bold", INK), (title, 0.40, 9.5, "normal", INK), (wrapped, 0.60, 8, "normal", FAINT))
    for text, inches, size, weight, colour in lines:
        figure.text(
            0.15 / figure.get_figwidth(),
            1 - inches / height,
            text,
            ha="left",
            va="top",
            fontsize=size,
            fontweight=weight,
            color=colour,
            in_layout=False,
        )


def legend_columns(labels: Sequence[str], width: float, fontsize: float) -> int:
    """As many columns as a legend can have within a figure.

    Args:
        labels: Its entries, which matplotlib fills in column by column.
        width: Of the figure, in inches.
        fontsize: Of the legend, in points.
    """
    character = 0.6 * fontsize / 72  # inches
    for columns in range(len(labels), 1, -1):
        parts = [part for part in np.array_split(np.array(labels, dtype=object), columns) if len(part)]
        if sum((max(map(len, part)) + _HANDLE) * character for part in parts) <= width:
            return columns
    return 1


def title_page(page: Any, heading: str, title: str) -> None:
    """Gives a plotly figure its heading, what was measured below it, and the common template."""
    page.update_layout(
        title={"text": f"{heading}<br><sub>{html.escape(title)}</sub>"},
        template="plotly_white",
    )


def faded(colour: str, alpha: float) -> str:
    """A colour ``#RRGGBB`` as plotly's rgba with an opacity in [0, 1]."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def save_png(figure: Figure, path: Path) -> Path:
    """Renders a figure and replaces the file atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    image = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(image, format="png", facecolor="white")
    return files.write(path, image.getvalue())


def save_html(figure: Any, path: Path, *, title: str, note: str) -> Path:
    """Writes a plotly figure as a page that needs no network: plotly's script is in it, once."""
    from markupsafe import Markup

    body = figure.to_html(include_plotlyjs=True, full_html=False, default_height="90vh", config={"displaylogo": False})
    return files.write(path, render("figure.html", title=title, ink=INK, figure=Markup(body), note=note))
