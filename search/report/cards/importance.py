"""Which parameter matters, and how: importance per objective, slices, and parallel coordinates."""

from __future__ import annotations

from analysis.matters import label
from search.report.card import Card, Cell, Graphic, Table, csv, number_cell, share_text
from search.report.data import ReportData

TITLE = "Which parameter matters?"


def card(data: ReportData) -> Card:
    """Slices, parallel coordinates, and the importance for each objective for which the parameters matter."""
    if not data.complete or not data.config.domains:
        return Card("No parameter was searched, or no setting is complete.")
    from analysis.figures.plots import bar_figure, parallel_figure, slice_figure
    from analysis.frames import to_frame

    shares = _shares(data)
    frame = to_frame(data.data.settings)
    front = [each.number for each in data.data.front]
    slices = slice_figure(frame, data.objectives, data.config.domains)
    parallel = parallel_figure(frame, data.objectives, data.config.domains, front)
    graphics = [
        Graphic.of(slices, "Each objective against each parameter. Bars: 95 % intervals."),
        Graphic.of(parallel, "Every setting as a line through its parameters and objectives; blue: the front."),
    ]
    if shares:
        named = {label(name): each for name, each in shares.items()}
        bars = bar_figure(named, "Share of the difference between the best tenth and the others (PED-ANOVA)")
        graphics.insert(
            0, Graphic.of(bars, "The importance of each parameter, for each objective for which the parameters matter.")
        )
    return Card(
        sentence=_sentence(shares),
        graphics=graphics,
        tables=[_table(shares)] if shares else [],
        notes=["Importance: Watanabe, Bansal and Hutter 2023, in Optuna's implementation."] if shares else [],
        downloads={"settings-searched.csv": csv(frame)},
    )


def _shares(data: ReportData) -> dict[str, dict[str, float]]:
    if data.answered is None:
        return {}
    decided = [name for name, matter in data.answered.answer.matters.items() if matter.matters]
    shares = {name: dict(data.importances(data.complete, name)) for name in decided}
    return {name: each for name, each in shares.items() if each}


def _sentence(shares: dict[str, dict[str, float]]) -> str:
    if not shares:
        return (
            "No importance is given, because this sweep does not show that the parameters matter. "
            "The slices below show all measurements."
        )
    parts = []
    for objective, each in shares.items():
        first = max(each, key=lambda name: each[name])
        parts.append(f"{first} matters most for {label(objective)} ({share_text(each[first])} of the importance)")
    text = "; ".join(parts)
    return f"{text}."


def _table(shares: dict[str, dict[str, float]]) -> Table:
    rows = [
        [Cell(label(objective)), Cell(name), number_cell(share, share_text(share))]
        for objective, each in shares.items()
        for name, share in each.items()
    ]
    return Table("Importance", ["objective", "parameter", "share"], rows)
