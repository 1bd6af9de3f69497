"""What the table of an experiment says: a verdict on each of the paper's claims, and the text around the numbers.

A table is what ``search.results.reproduction`` makes, read with empty strings where nothing stands. A document is an
experiment's file as plain values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

Word = Literal["holds", "does not hold", "cannot be decided"]

CLEAN: Final = "clean"
ATTACK: Final = "attack"
WORST: Final = "worst"
EVALUATIONS: Final[Mapping[str, str]] = {
    CLEAN: "clean images",
    ATTACK: "as the paper attacks",
    WORST: "sound evaluation",
}
_HOURS: Final = 3600


@dataclass(frozen=True)
class Verdict:
    """What the numbers say of one comparison of a claim. Numbers are fractions, or a measure's own unit."""

    claim: str  # its name
    says: str
    about: str  # who is compared with whom, where
    evaluation: str
    value: float
    low: float
    high: float
    margin: float
    kind: str
    paper: float | None  # the difference in the paper
    word: Word


def word_of(kind: str, low: float, high: float, margin: float) -> Word:
    """Whether a claim holds, from the 95 % interval of its difference or level, and its margin.

    ``comparable`` holds if the whole interval lies within the margin either way; every other kind if it lies above the
    margin. A claim does not hold if the interval lies on the other side. A difference without an interval, or with one
    of no width, decides nothing: all networks did the same on all images.
    """
    if math.isnan(low) or math.isnan(high) or low == high:
        return "cannot be decided"
    if kind == "comparable":
        if -margin < low and high < margin:
            return "holds"
        return "does not hold" if low > margin or high < -margin else "cannot be decided"
    if low > margin:
        return "holds"
    return "does not hold" if high <= margin else "cannot be decided"


def verdicts(document: Mapping[str, Any], table: pd.DataFrame) -> list[Verdict]:
    """One verdict for each comparison and evaluation of the claims, in their order."""
    rows = table[table["kind"] == "claim"]
    found = []
    for claim in document["claims"]:
        members = [other["method"] for other in claim["others"]] or [""]
        own = rows[(rows["claim"] == claim["name"]) & (rows["panel"] == claim["panel"])]
        for i, row in enumerate(own.to_dict("records")):
            printed = claim["paper"].get(members[i % len(members)])
            found.append(
                Verdict(
                    claim=claim["name"],
                    says=claim["says"],
                    about=_about(row),
                    evaluation=row["evaluation"],
                    value=row["value"],
                    low=row["low"],
                    high=row["high"],
                    margin=claim["margin"],
                    kind=claim["kind"],
                    paper=None if row["evaluation"] == WORST else printed,
                    word=word_of(claim["kind"], row["low"], row["high"], claim["margin"]),
                )
            )
    return found


def text(name: str, document: Mapping[str, Any], table: pd.DataFrame) -> str:
    """The report of an experiment in Markdown: numbers, the paper's, and a verdict per claim."""
    parts = [f"# {heading(name, document, table)}", document["shows"], *filter(None, [document["note"]])]
    parts += [setup(rows) for _, rows in table.groupby("panel", sort=False)]
    parts += [
        "A cell holds what the paper's attack leaves, then the worst case of the sound evaluation, in % with 95 % "
        "intervals over seeds and images. Where only the first is high, the attack is masked. Radii are of L2 balls, "
        "in brackets as root mean squares."
    ]
    for panel, rows in table.groupby("panel", sort=False):
        parts += [
            f"## {panel_label(rows)}",
            _accuracies(rows, [each for each in document["printed"] if each["panel"] == panel]),
        ]
    parts += ["## Verdicts", _verdict_table(verdicts(document, table))]
    return "\n\n".join(parts) + "\n"


def heading(name: str, document: Mapping[str, Any], table: pd.DataFrame) -> str:
    """The title, which says so where the paper's data or network was replaced."""
    replaced = [each for each in dict.fromkeys(table["in_place_of"]) if each]
    return f"{name}: {document['title']}" + (f" ({'; '.join(replaced)})" if replaced else "")


def setup(rows: pd.DataFrame) -> str:
    """What was trained and attacked for one panel, and with what."""
    first = rows.iloc[0]
    return (
        f"{first['panel']}: {networks(rows)}. {first['units']} networks, "
        f"{first['seconds'] / _HOURS:.2g} processor-hours on {first['hardware']}; {first['versions']}."
    )


def networks(rows: pd.DataFrame) -> str:
    """The networks of one panel, their seeds and images."""
    first = rows.iloc[0]
    seeds = rows.loc[rows["kind"] != "claim", "seeds"].max()
    images = rows.loc[rows["evaluation"].isin([ATTACK, WORST]), "images"]
    attacked = f", {images.max()} images attacked" if len(images) else ""
    return f"{first['network']} on {first['data']}, {seeds} seeds{attacked}"


def panel_label(rows: pd.DataFrame) -> str:
    """A panel's name, which says so where the paper's data was replaced: ``CIFAR-10 (here fashion-mnist)``."""
    first = rows.iloc[0]
    return str(first["panel"]) + (f" (here {first['data']})" if first["in_place_of"] else "")


def label(row: Mapping[Any, Any]) -> str:
    """A method and its setting."""
    return " ".join(filter(None, (row["method"], row["setting"])))


def radius_label(row: Mapping[Any, Any]) -> str:
    """A radius in both conventions: ``0.56 (0.02)``."""
    return f"{row['radius']:.4g} ({row['rms']:.2g})"


def _about(row: Mapping[Any, Any]) -> str:
    where = f"{row['attack'] or 'worst case'} within {radius_label(row)}" if row["radius"] == row["radius"] else ""
    against = f"against {row['against']}" if row["against"] else ""
    return ", ".join(filter(None, (" ".join(filter(None, (label(row), against))), where, row["panel"])))


def _accuracies(rows: pd.DataFrame, printed: list[Mapping[str, Any]]) -> str:
    """A panel's numbers: a line for each attack and radius, or for each setting if there are many."""
    measured = rows[rows["kind"] != "claim"]
    columns = list(dict.fromkeys(label(row) for row in measured.to_dict("records")))
    cells: dict[str, dict[str, str]] = {}
    for row in measured.to_dict("records"):
        if row["evaluation"] == ATTACK:
            same = measured["radius"] == row["radius"]
            worst = measured[same & (measured["evaluation"] == WORST)]
            mine = next(each for each in worst.to_dict("records") if label(each) == label(row))
            cells.setdefault(f"{row['attack']}, {radius_label(row)}", {})[label(row)] = (
                f"{_share(row)} / {_share(mine)}"
            )
        elif row["evaluation"] == WORST:
            if not (measured["evaluation"] == ATTACK).any():
                cells.setdefault(f"worst case, {radius_label(row)}", {})[label(row)] = _share(row)
        else:
            number = _number(row) if row["kind"] == "network" else _share(row)
            cells.setdefault(row["evaluation"], {})[label(row)] = number
    for each in printed:
        at = each["at"] or {}
        radius = next((f"{value:g} {unit}" for unit, value in at.items() if value is not None), "")
        title = f"*paper: {each['attack'] or CLEAN}{', ' if radius else ''}{radius}*"
        cells[title] = {_title(each_method, measured): f"*{100 * v:.2f}*" for each_method, v in each["values"].items()}
    lines = {title: [values.get(column, "") for column in columns] for title, values in cells.items()}
    if len(columns) > len(lines):  # settings as lines
        titles = list(lines)
        lines = {column: [lines[title][i] for title in titles] for i, column in enumerate(columns)}
        columns = titles
    return _markdown(["", *columns], [[title, *values] for title, values in lines.items()])


def _title(member: str, measured: pd.DataFrame) -> str:
    """The column of a member of the pool, whose name a table does not hold: see ``member`` there."""
    rows = measured[measured["member"] == member]
    return label(rows.iloc[0].to_dict()) if len(rows) else member


def _share(row: Mapping[Any, Any]) -> str:
    interval = "" if math.isnan(row["low"]) else f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{100 * row['value']:.1f}{interval}"


def _number(row: Mapping[Any, Any]) -> str:
    interval = "" if math.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def _verdict_table(found: list[Verdict]) -> str:
    return _markdown(
        ["claim", "of", "evaluation", "difference, 95 %", "margin", "paper", "verdict"], list(map(_verdict_row, found))
    )


def _verdict_row(verdict: Verdict) -> list[str]:
    is_share = verdict.evaluation in (CLEAN, ATTACK, WORST, "condition")
    factor, digits = (100, 1) if is_share else (1, 3)
    sign = "" if verdict.kind == "level" else "+"

    def shown(value: float) -> str:
        return f"{factor * value:{sign}.{digits}f}"

    interval = "" if math.isnan(verdict.low) else f" [{shown(verdict.low)}, {shown(verdict.high)}]"
    margin = f"{'±' if verdict.kind == 'comparable' else '>'} {factor * verdict.margin:g}"
    paper = "" if verdict.paper is None else f"{100 * verdict.paper:+.1f}"
    evaluation = EVALUATIONS.get(verdict.evaluation, verdict.evaluation)
    return [
        verdict.says,
        verdict.about,
        evaluation,
        shown(verdict.value) + interval,
        margin,
        paper,
        f"**{verdict.word}**",
    ]


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    def line(values: list[str]) -> str:
        return f"| {' | '.join(values)} |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)])


def by_seed(row: Mapping[Any, Any]) -> Iterator[float]:
    """The value of each seed of a table's row."""
    return map(float, str(row["by_seed"]).split())
