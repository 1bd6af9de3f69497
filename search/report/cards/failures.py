"""Which units failed or were stopped early, and why."""

from __future__ import annotations

from search.report.card import Card, Cell, Graphic, Table, csv_of
from search.report.data import ReportData
from search.results.text import describe

TITLE = "What failed"

_HOUR = 3600.0


def card(data: ReportData) -> Card:
    """All units over time, and the reasons for failures."""
    units = data.data.units
    failed = [each for each in units if each.state == "failed"]
    pruned = [each for each in units if each.state == "pruned"]
    early = f"; {len(pruned)} were stopped early, to save time" if pruned else ""
    sentence = (
        f"{len(failed)} of {len(units)} units failed{early}."
        if failed
        else f"None of {len(units)} units failed{early}."
    )
    rows = [
        [Cell(each.number), Cell(describe(each).strip()), Cell(each.state), Cell(each.failure or "")]
        for each in (*failed, *pruned)
    ]
    return Card(
        sentence=sentence,
        graphics=_graphics(data),
        tables=[Table("Failed and stopped units", ["unit", "setting", "state", "reason"], rows)],
        downloads={
            "units.csv": csv_of(
                [
                    {
                        "unit": u.number,
                        "state": u.state,
                        "started": u.started,
                        "finished": u.finished,
                        "failure": u.failure,
                    }
                    for u in units
                ]
            )
        },
    )


def _graphics(data: ReportData) -> list[Graphic]:
    import pandas as pd

    from analysis.figures.plots import timeline_figure

    known = [each for each in data.data.units if each.started is not None]
    if not known:
        return []
    began = min(each.started or 0.0 for each in known)
    last = max(each.finished or each.started or 0.0 for each in known)
    running = {"running": last}
    spans = pd.DataFrame(
        [
            {
                "start": ((each.started or began) - began) / _HOUR,
                "stop": ((each.finished or running.get(each.state) or each.started or began) - began) / _HOUR,
                "state": each.state,
            }
            for each in known
        ]
    )
    return [
        Graphic.of(
            timeline_figure(spans),
            "Each bar is a unit, from start to end. Units that ran at the same time are in separate rows.",
        )
    ]
