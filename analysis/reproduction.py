"""The text of an experiment: its numbers, and a verdict on each of the paper's claims.

A table is one made by ``search.results.reproduction``, with missing text read as empty strings. A document is an
experiment's file as plain values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

Word = Literal["holds", "does not hold", "cannot be decided"]

CLEAN: Final = "clean"
ATTACK: Final = "attack"
WORST: Final = "worst"
EVALUATIONS: Final[Mapping[str, str]] = {
    CLEAN: "clean images",
    ATTACK: "the paper's attack",
    WORST: "sound evaluation",
    "f_true": "normalised logit of the true class, f",
    "others": "sum of e^f over the other classes, S",
    "condition": "share of images with z > 0",
    "silhouette": "silhouette of the classes",
    "angular_silhouette": "silhouette of the classes at unit length",
}
_HOURS: Final = 3600


@dataclass(frozen=True)
class Verdict:
    """The verdict on one comparison of a claim. Numbers are fractions, or in the unit of the measure."""

    claim: str  # the name of the claim
    says: str
    about: str  # the methods compared, the attack, and the panel
    measured: str  # the attack and the radius, or the measure
    evaluation: str
    value: float
    low: float
    high: float
    margin: float
    kind: str
    paper: float | None  # the difference in the paper
    word: Word


def word_of(kind: str, low: float, high: float, margin: float) -> Word:
    """Whether a claim holds, given the 95 % interval of its difference or level, and its margin.

    ``comparable`` holds if the whole interval lies between -margin and margin; every other kind holds if it lies above
    the margin. A claim does not hold if the whole interval lies on the other side. Without an interval, or with one of
    zero width, nothing is decided: with zero width, all networks gave the same result on all images.
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
    """One verdict per comparison and evaluation, in the order of the claims."""
    rows = table[table["kind"] == "claim"]
    result = []
    for claim in document["claims"]:
        members = [other["method"] for other in claim["others"]] or [""]
        own = rows[(rows["claim"] == claim["name"]) & (rows["panel"] == claim["panel"])]
        for i, row in enumerate(own.to_dict("records")):
            printed = claim["paper"].get(members[i % len(members)])
            result.append(
                Verdict(
                    claim=claim["name"],
                    says=claim["says"],
                    about=_about(row),
                    measured=_title(row),
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
    return result


def text(name: str, document: Mapping[str, Any], table: pd.DataFrame, figures: Sequence[str]) -> str:
    """The report of an experiment in Markdown: our numbers, the paper's numbers, and a verdict per claim.

    ``figures`` are file names in the report's folder: a picture, and possibly a page to rotate it.
    """
    title = heading(name, document, table)
    parts = [f"# {title}", document["shows"], *filter(None, [document["note"]])]
    for figure in figures:
        rotatable = f"`robustfront reproduce {name} --from-table` writes `{figure}`, where the plots can be rotated."
        parts.append(f"![{title}]({figure})" if figure.endswith(".png") else rotatable)
    parts += [setup(rows) for _, rows in table.groupby("panel", sort=False)]
    parts += [_key(set(table.loc[table["kind"] != "claim", "evaluation"]))]
    for panel, rows in table.groupby("panel", sort=False):
        parts += [
            f"## {panel_label(rows)}",
            _accuracies(rows, [each for each in document["printed"] if each["panel"] == panel]),
        ]
    parts += ["## Verdicts", _verdict_table(verdicts(document, table))]
    return "\n\n".join(parts) + "\n"


def _key(evaluations: set[str]) -> str:
    """How to read the tables."""
    parts = ["Accuracies are in %. Intervals are 95 % intervals over seeds and images."]
    if WORST in evaluations:
        parts.append("Radii are in L2; in brackets, the same radii as root mean squares.")
    if ATTACK in evaluations:
        parts.append(
            "The worst case is over the sound evaluation and all attacks of the paper. If an attack leaves far more "
            "images than the worst case, it is too weak to show robustness, for example because gradients are masked."
        )
    return " ".join(parts)


def summary(experiments: Sequence[tuple[str, Mapping[str, Any], pd.DataFrame]]) -> str:
    """The verdicts of several experiments (names, documents, tables) in Markdown, one row per claim and panel."""
    rows = []
    for stem, document, table in experiments:
        link = f"[{_name(table['experiment'].iloc[0])}]({stem}.md)"
        results = verdicts(document, table)
        for claim in document["claims"]:
            own = [each for each in results if each.claim == claim["name"]]
            words = [[each.word for each in own if (each.evaluation == WORST) == sound] for sound in (False, True)]
            data = panel_label(table[table["panel"] == claim["panel"]])
            rows.append([link, claim["says"], data, own[0].measured, *map(_counted, words)])
    parts = [
        "# The paper's claims",
        "Whether each claim of Song et al. 2022 holds here: first as the paper measured it, then by the sound "
        "evaluation. A claim about several methods has one verdict for each; the brackets count them. The pages behind "
        "the links have the numbers, intervals and margins.",
        _markdown(["", "claim", "data", "measured", "as in the paper", "sound evaluation"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def _counted(words: Sequence[str]) -> str:
    """``holds``, or of several verdicts ``holds (3), does not hold (1)``."""
    counts = Counter(words)
    return ", ".join(word if len(words) == 1 else f"{word} ({count})" for word, count in counts.most_common())


def _name(name: str) -> str:
    """``Figure 3`` for ``figure-3``."""
    return name.replace("-", " ").capitalize()


def heading(name: str, document: Mapping[str, Any], table: pd.DataFrame) -> str:
    """The title; if the paper's data or network was replaced, it names what was used."""
    title = f"{_name(name)}: {document['title']}"
    if not table["in_place_of"].any():
        return title
    used, data = (" and ".join(table[column].unique()) for column in ("network", "data"))
    return f"{title} (here: {used} on {data})"


def replacements(table: pd.DataFrame) -> str:
    """What replaces the paper's data and network, e.g. ``mnist5k in place of mnist``; empty if nothing does."""
    parts = [part for each in table["in_place_of"].unique() for part in each.split(", ") if part]
    return ", ".join(dict.fromkeys(parts))


def setup(rows: pd.DataFrame) -> str:
    """The networks, processor time, hardware and versions of one panel."""
    first = rows.iloc[0]
    replaced = f" ({first['in_place_of']})" if first["in_place_of"] else ""
    return (
        f"{first['panel']}: {networks(rows)}{replaced}. {first['units']} networks, "
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
    """A panel's name; if the paper's data was replaced, it names the replacement: ``CIFAR-10 (here fashion-mnist)``."""
    first = rows.iloc[0]
    return str(first["panel"]) + (f" (here {first['data']})" if first["in_place_of"] else "")


def label(row: Mapping[Any, Any]) -> str:
    """A method and its setting."""
    return " ".join(filter(None, (row["method"], row["setting"])))


def radius_label(row: Mapping[Any, Any]) -> str:
    """A radius in L2 and as a root mean square: ``0.56 (0.02)``."""
    return f"{row['radius']:.4g} ({row['rms']:.2g})"


def _about(row: Mapping[Any, Any]) -> str:
    where = f"{row['attack'] or 'worst case'} within {radius_label(row)}" if row["radius"] == row["radius"] else ""
    against = f"against {row['against']}" if row["against"] else ""
    return ", ".join(filter(None, (" ".join(filter(None, (label(row), against))), where, row["panel"])))


def _accuracies(rows: pd.DataFrame, printed: list[Mapping[str, Any]]) -> str:
    """A panel's numbers: one row per attack and radius, or one row per setting if there are many settings."""
    measured = rows[rows["kind"] != "claim"]
    one_setting_each = (measured.groupby("method")["setting"].nunique() == 1).all()
    records = measured.to_dict("records")
    measured = measured.assign(
        column=[row["method"] if one_setting_each else label(row) for row in records],
        title=list(map(_title, records)),
    )
    columns = list(measured["column"].unique())
    of_member = dict(zip(measured["member"], measured["column"], strict=True))
    cells: dict[str, dict[str, str]] = {}
    for title, own in measured.groupby("title", sort=False):
        cells[str(title)] = {row["column"]: _cell(row) for row in own.to_dict("records")}
        for each in printed:
            if _measures(own.iloc[0].to_dict(), each):
                values = {of_member[member]: f"*{100 * value:.2f}*" for member, value in each["values"].items()}
                cells[f"*{title}, in the paper*"] = values
    table_rows = {title: [values.get(column, "") for column in columns] for title, values in cells.items()}
    if len(columns) > len(table_rows):  # settings as rows
        titles = list(table_rows)
        table_rows = {column: [table_rows[title][i] for title in titles] for i, column in enumerate(columns)}
        columns = titles
    parts = [_markdown(["", *columns], [[title, *values] for title, values in table_rows.items()])]
    if one_setting_each:
        settings = measured.loc[measured["setting"] != "", ["method", "setting"]].drop_duplicates()
        parts += ["Settings: " + "; ".join(f"{method}: {setting}" for method, setting in settings.to_numpy()) + "."]
    return "\n\n".join(parts)


def _title(row: Mapping[Any, Any]) -> str:
    """What a row of the table measures."""
    if row["evaluation"] in (ATTACK, WORST):
        return f"{row['attack'] or '**worst case**'}, {radius_label(row)}"
    return EVALUATIONS[row["evaluation"]]


def _measures(row: Mapping[Any, Any], printed: Mapping[str, Any]) -> bool:
    """Whether a row of the table has the same attack and radius as the paper's numbers."""
    if printed["attack"] is None:
        return bool(row["evaluation"] == CLEAN)
    radius, rms = printed["at"]["l2"], printed["at"]["rms"]
    same = row["attack"] == printed["attack"]
    return same and math.isclose(row["radius"] if rms is None else row["rms"], radius or rms, rel_tol=1e-3)


def _cell(row: Mapping[Any, Any]) -> str:
    return _number(row) if row["kind"] == "network" else _share(row)


def _share(row: Mapping[Any, Any]) -> str:
    interval = "" if math.isnan(row["low"]) else f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return f"{100 * row['value']:.1f}{interval}"


def _number(row: Mapping[Any, Any]) -> str:
    interval = "" if math.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def _verdict_table(results: list[Verdict]) -> str:
    return _markdown(
        ["claim", "comparison", "evaluation", "difference or value (95 %)", "margin", "paper", "verdict"],
        list(map(_verdict_row, results)),
    )


def _verdict_row(verdict: Verdict) -> list[str]:
    is_share = verdict.evaluation in (CLEAN, ATTACK, WORST, "condition")
    factor, digits = (100, 1) if is_share else (1, 3)
    sign = "" if verdict.kind == "level" else "+"

    def formatted(value: float) -> str:
        return f"{factor * value:{sign}.{digits}f}"

    interval = "" if math.isnan(verdict.low) else f" [{formatted(verdict.low)}, {formatted(verdict.high)}]"
    margin = f"{'±' if verdict.kind == 'comparable' else '>'} {factor * verdict.margin:g}"
    paper = "" if verdict.paper is None else f"{100 * verdict.paper:+.1f}"
    evaluation = EVALUATIONS[verdict.evaluation]
    return [
        verdict.says,
        verdict.about,
        evaluation,
        formatted(verdict.value) + interval,
        margin,
        paper,
        f"**{verdict.word}**",
    ]


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    def line(values: list[str]) -> str:
        return f"| {' | '.join(values)} |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)])


def by_seed(row: Mapping[Any, Any]) -> Iterator[float]:
    """The values of the seeds in a row of the table."""
    return map(float, str(row["by_seed"]).split())
