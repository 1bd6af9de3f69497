"""The parts of a card of the report."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.records import TrialRecord
from search.results.text import measured_text
from trainables.metrics import is_accuracy

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Graphic:
    """A picture on a card, with a caption (which screen readers read aloud) and a width in inches."""

    picture: Markup
    caption: str
    width: float = 7.6

    @classmethod
    def of(cls, figure: Figure, caption: str) -> Graphic:
        """Makes a graphic from a figure of `analysis.figures.plots`."""
        from analysis.figures.style import bare_svg

        return cls(bare_svg(figure), caption, float(figure.get_figwidth()))

    @classmethod
    def png(cls, content: bytes, caption: str, width: float) -> Graphic:
        """Embeds a PNG in the page. Its background stays white in dark mode."""
        from markupsafe import Markup

        source = base64.b64encode(content).decode("ascii")
        return cls(Markup('<img class="paper" alt="" src="data:image/png;base64,{}">').format(source), caption, width)


@dataclass(frozen=True)
class Cell:
    """A cell of a table. Rows are sorted by ``key``, or by the text if ``key`` is None."""

    text: str
    key: float | None = None
    detail: str = ""  # small print below the text
    style: str = ""  # a CSS class
    link: str = ""  # relative to the run's folder


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort by any column. The first cell of a row is the row's heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Whether each column is numeric."""
        return [
            all(row[at].key is not None or not row[at].text for row in self.rows) for at in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Card:
    """A card: one sentence, then the evidence for it. ``downloads`` maps file names to contents."""

    sentence: str
    graphics: Sequence[Graphic] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, str]] = ()  # description and command
    notes: Sequence[str] = ()
    downloads: Mapping[str, str] = field(default_factory=dict)
    tone: str = ""  # "good", "unsure" or "bad": the colour that marks the sentence


def number_cell(value: float | int | None, text: str | None = None, detail: str = "") -> Cell:
    """A cell with a number, by default with three significant digits; empty for None."""
    if value is None:
        return Cell("")
    return Cell(f"{value:.3g}" if text is None else text, float(value), detail)


def measured_cell(record: TrialRecord, name: str) -> Cell:
    """A cell with an objective or accuracy and its interval."""
    text, _, interval = measured_text(name, record.value(name), record.interval(name)).partition(" (")
    return number_cell(record.value(name), text, interval.rstrip(")"))


def csv(frame: pd.DataFrame) -> str:
    """A table as CSV."""
    return frame.to_csv(index=False, lineterminator="\n")


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV."""
    import pandas as pd

    return csv(pd.DataFrame(list(rows)))


def share_text(value: float) -> str:
    """A probability or share as text: ``87 %``."""
    return f"{100 * value:.0f} %"


def difference_text(name: str, value: float, interval: Sequence[float]) -> str:
    """A signed difference and its interval, for accuracies in points: ``-5.3 points (-16.0 to +5.4)``."""
    factor, style, unit = (100, "+.1f", " points") if is_accuracy(name) else (1, "+.3g", "")
    text, low, high = (f"{factor * number:{style}}".replace("-", "\N{MINUS SIGN}") for number in (value, *interval))
    return f"{text}{unit} ({low} to {high})"
