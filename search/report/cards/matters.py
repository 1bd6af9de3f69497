"""Whether the parameters matter for each objective, compared with the noise."""

from __future__ import annotations

from analysis.matters import amount_text, label, range_text
from search.report.card import Card, Cell, Graphic, Table, csv_of, number_cell
from search.report.data import ReportData
from trainables.metrics import is_accuracy

TITLE = "Does it matter?"

_WORDS = {True: "yes", False: "no", None: "undecided"}
_COMPONENTS = {
    "seed": "between seeds",
    "interaction": "per setting and seed",
    "images_shared": "of the images, shared",
    "images_per_unit": "of the images, per network",
}


def card(data: ReportData) -> Card:
    """The effect of the parameters on each objective, compared with the smallest effect of interest."""
    if data.answered is None:
        return Card("Nothing can be said before a setting is complete.")
    from analysis.figures.plots import Intervals, Row, interval_figure
    from analysis.figures.style import BLUE, GREY
    from analysis.statistics import Interval

    answer, effects = data.answered.answer, data.answered.effects
    panels = []
    for name, matter in answer.matters.items():
        factor = 100 if is_accuracy(name) else 1
        low, high = (factor * end for end in matter.effect)
        row = Row("effect of the choice", (low + high) / 2, Interval(low, high), BLUE if matter.matters else GREY)
        title = f"{label(name).capitalize()}{' (points)' if factor == 100 else ''}"
        panels.append(Intervals(title, [row], band=factor * effects[name]))
    return Card(
        sentence=" ".join(
            f"{label(name).capitalize()}: {each.sentence.replace(': ', '; ')}." for name, each in answer.matters.items()
        ),
        graphics=[
            Graphic.of(
                interval_figure(panels),
                "How much the choice of the parameters changes each objective, with 95 % intervals. Grey band: changes "
                "below the smallest effect of interest.",
            )
        ],
        tables=[_effects(data), _noise(data)],
        downloads={
            "effects.csv": csv_of(
                [
                    {
                        "objective": name,
                        "matters": _WORDS[each.matters],
                        "low": each.effect.low,
                        "high": each.effect.high,
                    }
                    for name, each in answer.matters.items()
                ]
            )
        },
    )


def _effects(data: ReportData) -> Table:
    assert data.answered is not None
    rows = []
    for name, each in data.answered.answer.matters.items():
        smallest = amount_text(name, data.answered.effects[name])
        more = "" if each.units is None else f"{each.units}"
        rows.append(
            [
                Cell(label(name)),
                Cell(_WORDS[each.matters]),
                Cell(range_text(name, each.effect).replace("-", "\N{MINUS SIGN}"), each.effect.high),
                Cell(smallest, data.answered.effects[name]),
                Cell(more, None if each.units is None else float(each.units)),
            ]
        )
    heading = [
        "objective",
        "do the parameters matter?",
        "effect (95 % interval)",
        "smallest effect of interest",
        "units needed to decide",
    ]
    return Table("The effect of the parameters", heading, rows)


def _noise(data: ReportData) -> Table:
    assert data.answered is not None
    rows = [
        [Cell(label(name)), *(number_cell(getattr(model.components, part)) for part in _COMPONENTS)]
        for name, model in data.answered.models.items()
    ]
    return Table(
        "The noise of one network's value: standard deviations in points", ["objective", *_COMPONENTS.values()], rows
    )
