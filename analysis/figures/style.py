"""What all pictures share: colours, labels, empty figures, legends, and writing PNG files and offline HTML pages.

Matplotlib is used only through ``Figure``, so that nothing needs a display or touches global state.
"""

from __future__ import annotations

import functools
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
from analysis.records import value_text
from trainables import files, metrics

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]

BLUE: Final = "#0072B2"  # the search
GREY: Final = "#8A9099"
INK: Final = "#222831"
FAINT: Final = "#5B6470"
RULE: Final = "#E3E6EA"
# The baselines and the attacks: colours of Okabe and Ito, then wine and olive from Tol's muted scheme. People with any
# type of colour vision can tell them apart.
COLOURS: Final = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")

# The same colours in a page, as variables of page.css.
_PAGE_COLOURS: Final = {
    INK: "currentColor",
    FAINT: "var(--faint)",
    RULE: "var(--rule)",
    BLUE: "var(--search)",
    "#FFFFFF": "var(--page)",
}

DOTS_PER_INCH: Final = 150
WORST_CASE: Final = ", worst case"  # of a robust accuracy
HEADLINE: Final = 0.9  # inches: a heading, a title, two lines of a note
_CHARACTERS_PER_INCH: Final = 16  # in the note
_HANDLE: Final = 6  # the width of a legend's symbol, in characters
_LEGEND_ROWS: Final = 2  # rows that a figure has room for without growing


@dataclass(frozen=True)
class Scale:
    """How the values of a measure are shown: fractions of images in percent, everything else unchanged."""

    factor: float
    unit: str
    style: str
    is_worst_case: bool = False  # whether robust accuracy is known to be the worst case over attacks

    def text(self, value: float) -> str:
        return f"{self.factor * value:{self.style}}{self.unit}"

    def label(self, measure: str) -> str:
        return f"{self.name(measure)} ({self.unit.strip()})" if self.unit else self.name(measure)

    def name(self, measure: str) -> str:
        """The measure's name for people; nobody knows whether someone else's robust accuracy is a worst case."""
        name = measure_label(measure)
        return name if self.is_worst_case else name.replace(WORST_CASE, "")


def scale_of(frame: pd.DataFrame, measure: str) -> Scale:
    """The scale of a measured column of a table made by ``frames.to_frame``."""
    share = metrics.is_accuracy(measure) or images_of(frame, measure) is not None
    attacked = any(metrics.is_of_one_attack(str(column)) for column in frame.columns)
    return Scale(100.0, " %", ".1f", attacked) if share else Scale(1.0, "", ".4g")


def measure_label(measure: str) -> str:
    """A measure's name for people, e.g. ``pgd50-ce, normalized logits`` for ``pgd50-ce/normalized``."""
    one_attack = metrics.split_attack(measure)
    if one_attack is not None:
        attack, view = one_attack
        return f"{attack}, worst view" if view == metrics.WORST_VIEW else f"{attack}, {view} logits"
    if metrics.is_under_attack(measure):
        radius = metrics.radius_of(measure)
        best = "Best robust" if measure == metrics.BEST_ROBUST else "Robust"
        return f"{best} accuracy{WORST_CASE}" + (f" within {radius}" if radius else "")
    return measure.replace("_", " ").capitalize()


def complete(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The complete trials of a kind (``search`` or ``baseline``) in a table made by ``frames.to_frame``."""
    return frame[(frame["kind"] == kind) & (frame["state"] == "complete")].reset_index(drop=True)


def sentences(*parts: str) -> str:
    """The parts that are not empty, as one text."""
    return " ".join(filter(None, parts))


def coverage(frame: pd.DataFrame) -> str:
    """Sentences on the replicates of complete trials, if their numbers differ, and on the trials not shown, if any."""
    parts = []
    counts = frame.loc[frame["state"] == "complete", "replicates"].dropna()
    few, many = counts.min(), counts.max()
    if counts.nunique() > 1:
        parts.append(f"Means over {few} to {many} replicates: {(counts == many).sum()} of {len(counts)} over {many}.")
    states = frame["state"].value_counts()
    rest = [f"{states[state]} {state}" for state in ("pruned", "failed", "running") if state in states]
    return sentences(*parts, f"Not shown: {', '.join(rest)}." if rest else "")


def setting_label(row: Mapping[Any, Any], parameters: Iterable[str]) -> str:
    """The setting of a table's row, e.g. ``i-sce + adversarial-training s=1, m=0``; missing parameters are left out."""
    method = row["loss"] if row["defence"] == "none" else f"{row['loss']} + {row['defence']}"
    values = [f"{name}={value_text(row[name])}" for name in parameters if name in row and not pd.isna(row[name])]
    return f"{method} {', '.join(values)}".rstrip()


def trial_label(row: Mapping[Any, Any], parameters: Iterable[str]) -> str:
    """A trial in a legend, e.g. ``B1: i-sce s=1, m=0``."""
    return f"{row['number']}: {setting_label(row, parameters)}"


def hover_text(row: Mapping[Any, Any], parameters: Iterable[str], scales: Mapping[str, Scale]) -> str:
    """What an interactive picture says about a trial: number, setting, each measure with its interval, replicates."""
    lines = [f"<b>#{row['number']}</b> {html.escape(setting_label(row, parameters))}"]
    for name, scale in scales.items():
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        bracket = "" if math.isnan(low) else f" [{scale.text(low)}, {scale.text(high)}]"
        lines.append(f"{scale.name(name)}: {scale.text(row[name])}{bracket}")
    if not pd.isna(row["replicates"]) and row["replicates"] > 1:
        lines.append(f"means over {row['replicates']} replicates")
    return "<br>".join(lines)


def empty_figure(width: float, height: float) -> Figure:
    """A figure without panels; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH)


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of empty panels below its headline, and the panels row by row; sizes in inches."""
    figure = empty_figure(width, height)
    figure.set_layout_engine("constrained")
    _leave_room(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _leave_room(figure: Figure, inches: float = HEADLINE) -> None:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0.005, 0.005, 0.985, 0.985 - inches / figure.get_figheight()))


def style_axes(axes: Axes) -> None:
    """Gives axes two spines and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=9)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color(INK)
    axes.grid(color=RULE, lw=0.8)
    axes.set_axisbelow(True)


def headline(figure: Figure, heading: str, title: str, note: str) -> list[Artist]:
    """Writes a heading, what was measured, and how to read it into the top ``HEADLINE`` inches of a figure."""
    texts: list[Artist] = []
    width, height = figure.get_size_inches()
    wrapped = textwrap.fill(note, int(_CHARACTERS_PER_INCH * width))
    lines = ((heading, 0.12, 13, "bold", INK), (title, 0.40, 9.5, "normal", INK), (wrapped, 0.60, 8, "normal", FAINT))
    for text, inches, size, weight, colour in lines:
        drawn = figure.text(0.15 / width, 1 - inches / height, text, va="top", size=size, weight=weight, color=colour)
        drawn.set_in_layout(False)
        texts.append(drawn)
    return texts


def legend_size(handles: Sequence[Artist], width: float, fontsize: float, most: int | None = None) -> tuple[int, float]:
    """A legend's columns (all that fit, up to ``most``) and the height of the rows after the first, in inches."""
    labels = [str(handle.get_label()) for handle in handles]
    character = 0.6 * fontsize / 72  # inches
    for columns in range(min(len(labels), most or len(labels)), 0, -1):
        parts = [part for part in np.array_split(np.array(labels, dtype=object), columns) if len(part)]
        if sum((max(map(len, part)) + _HANDLE) * character for part in parts) <= width:
            break
    return columns, (-(-len(labels) // columns) - 1) * 1.5 * fontsize / 72


def add_legend(figure: Figure, handles: Sequence[Artist], fontsize: float, most: int | None = None) -> None:
    """Adds a legend below a figure's panels, and makes room for it if it is long."""
    columns, height = legend_size(handles, figure.get_figwidth(), fontsize, most)
    spare = (_LEGEND_ROWS - 1) * 1.5 * fontsize / 72
    figure.set_figheight(figure.get_figheight() + max(0.0, height - spare))
    _leave_room(figure)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=fontsize, labelcolor=INK
    )


def faded(colour: str, alpha: float) -> str:
    """A colour ``#RRGGBB`` as plotly's rgba with an opacity in [0, 1]."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


@dataclass(frozen=True)
class Picture:
    """A figure in matplotlib (``static``, which Jupyter shows) and in plotly (``interactive``).

    ``heading`` says what it shows, ``title`` what was measured, and ``note`` how to read it.
    """

    static: Figure
    interactive: Any
    heading: str
    title: str
    note: str

    def save(self, path: Path) -> list[Path]:
        """Writes both to ``path`` with the suffixes .png and .html."""
        self.interactive.update_layout(
            title={"text": f"{self.heading}<br><sub>{html.escape(self.title)}</sub>"}, template="plotly_white"
        )
        return [
            self.save_png(path.with_suffix(".png")),
            save_html(
                self.interactive, path.with_suffix(".html"), title=f"{self.heading}, {self.title}", note=self.note
            ),
        ]

    def save_png(self, path: Path) -> Path:
        """Replaces the file atomically."""
        return files.write(path, self._repr_png_())

    def svg(self) -> Markup:
        """The static figure without its headline, for a page."""
        return bare_svg(self.static)

    def _repr_png_(self) -> bytes:
        texts = headline(self.static, self.heading, self.title, self.note)
        try:
            return png(self.static)
        finally:
            for text in texts:
                text.remove()


def bare_svg(figure: Figure) -> Markup:
    """`svg` of a figure from ``new_figure``, without the room for its headline."""
    height = figure.get_figheight()
    figure.set_figheight(height - HEADLINE)
    _leave_room(figure, 0.0)
    try:
        return svg(figure)
    finally:
        figure.set_figheight(height)
        _leave_room(figure)


def png(figure: Figure, metadata: Mapping[str, str] | None = None, *, bare: bool = False) -> bytes:
    """A figure as a PNG on white, with metadata; ``bare`` cuts off the headline and halves the resolution."""
    from matplotlib.transforms import Bbox

    width, height = figure.get_size_inches()
    image = io.BytesIO()
    look: dict[str, Any] = {"bbox_inches": Bbox([[0, 0], [width, height - HEADLINE]]), "dpi": DOTS_PER_INCH / 2}
    figure.savefig(image, format="png", facecolor="white", metadata=dict(metadata or {}), **(look if bare else {}))
    return image.getvalue()


def svg(figure: Figure) -> Markup:
    """A figure as an SVG in the colours of its page (``page.css``), light or dark."""
    from markupsafe import Markup
    from matplotlib import rc_context

    drawn = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # text stays text
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    for colour, name in _PAGE_COLOURS.items():
        text = text.replace(colour.lower(), name)
    return Markup(text)


def save_png(figure: Figure, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes a figure as a PNG with metadata, and replaces the file atomically."""
    return files.write(path, png(figure, metadata))


def save_html(page: Any, path: Path, *, title: str, note: str) -> Path:
    """Writes a plotly figure as a page that needs no network: plotly's script is included once."""
    from markupsafe import Markup

    body = page.to_html(include_plotlyjs=True, full_html=False, default_height="90vh", config={"displaylogo": False})
    return files.write(path, render("figure.html", title=title, ink=INK, figure=Markup(body), note=note))


def render(template: str, **values: Any) -> str:
    """Fills a template of this package's ``templates``. Values are escaped unless they are ``markupsafe.Markup``."""
    return _templates().get_template(template).render(values)


@functools.cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("analysis.figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
