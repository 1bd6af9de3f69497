"""What a card of the report consists of."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.matters import range_text
from analysis.records import TrialRecord
from analysis.statistics import Interval
from trainables.metrics import is_accuracy

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Graphic:
    """A picture of a card: what it shows (``caption``, also for screen readers), and its width in inches."""

    picture: Markup
    caption: str
    width: float = 7.6

    @classmethod
    def of(cls, figure: Figure, caption: str) -> Graphic:
        """A figure of `analysis.figures.plots`."""
        from analysis.figures.style import bare_svg

        return cls(bare_svg(figure), caption, float(figure.get_figwidth()))

    @classmethod
    def png(cls, content: bytes, caption: str, width: float) -> Graphic:
        """A picture in the page itself; it stays white in the dark."""
        from markupsafe import Markup

        source = base64.b64encode(content).decode("ascii")
        return cls(Markup('<img class="paper" alt="" src="data:image/png;base64,{}">').format(source), caption, width)


@dataclass(frozen=True)
class Cell:
    """A cell of a table. ``key`` sorts it: a number, or the text itself if None."""

    text: str
    key: float | None = None
    detail: str = ""  # below the text, smaller
    style: str = ""  # a class of the style sheet
    link: str = ""  # relative to the run's folder


@dataclass(frozen=True)
class Table:
    """A table that its reader may sort by any column. The first cell of a row is its heading."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def numeric(self) -> list[bool]:
        """Which columns are numbers."""
        return [
            all(row[at].key is not None or not row[at].text for row in self.rows) for at in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Card:
    """A card: one sentence, then what it rests on. ``downloads`` are files by their names."""

    sentence: str
    graphics: Sequence[Graphic] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[tuple[str, str]] = ()
    commands: Sequence[tuple[str, str]] = ()  # what a command does, and the command
    notes: Sequence[str] = ()
    downloads: Mapping[str, str] = field(default_factory=dict)
    tone: str = ""  # "good", "unsure" or "bad": how the sentence is marked


def number_cell(value: float | int | None, text: str | None = None, detail: str = "") -> Cell:
    """A number, by default with three digits; empty for None."""
    if value is None:
        return Cell("")
    return Cell(f"{value:.3g}" if text is None else text, float(value), detail)


def measured_cell(record: TrialRecord, name: str) -> Cell:
    """An objective or accuracy with its interval."""
    shown, _, interval = measured_text(name, record.value(name), record.interval(name)).partition(" (")
    return number_cell(record.value(name), shown, interval.rstrip(")"))


def csv(frame: pd.DataFrame) -> str:
    """A table as a file."""
    return frame.to_csv(index=False, lineterminator="\n")


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a file."""
    import pandas as pd

    return csv(pd.DataFrame(list(rows)))


def share_text(value: float) -> str:
    """A probability or share: ``87 %``."""
    return f"{100 * value:.0f} %"


def measured_text(name: str, value: float, interval: Interval | Sequence[float]) -> str:
    """A value with its interval: ``29.4 % (19.9 to 38.8)``."""
    low, high = interval
    shown = f"{100 * value:.1f} %" if is_accuracy(name) else f"{value:.4g}"
    return shown if low != low else f"{shown} ({range_text(name, (low, high))})"  # NaN without an interval


def difference_text(name: str, value: float, interval: Sequence[float]) -> str:
    """A difference with its sign, an accuracy's in points: ``-5.3 points (-16.0 to +5.4)`` with true minus signs."""
    factor, style, unit = (100, "+.1f", " points") if is_accuracy(name) else (1, "+.3g", "")
    shown, low, high = (f"{factor * each:{style}}".replace("-", "\N{MINUS SIGN}") for each in (value, *interval))
    return f"{shown}{unit} ({low} to {high})"
