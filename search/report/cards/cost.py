"""The cost of the sweep: wall time and device-hours."""

from __future__ import annotations

from search.report.card import Card, Cell, Graphic, Table, csv_of, number_cell
from search.report.data import ReportData
from search.results.text import clock

TITLE = "What it cost"

_HOUR = 3600.0


def card(data: ReportData) -> Card:
    """Device-hours of training, attacks, audits and waiting, for search, confirmation and baselines."""
    units = [each for each in data.data.units if each.started is not None]
    if not units:
        return Card("Nothing has been trained yet.")
    resources = data.sweep.config.resources
    gpus = resources.gpus_per_trial > 0
    devices, device = (resources.gpus_per_trial, "GPU") if gpus else (float(resources.cpus_per_trial), "CPU")
    spent: dict[str, dict[str, float]] = {}
    units.sort(key=lambda each: (each.role != "search", "B" in (each.extends or each.number)))
    for unit in units:
        kind = (
            "confirmation"
            if unit.role == "confirmation"
            else "baselines"
            if "B" in (unit.extends or unit.number)
            else "search"
        )
        part = spent.setdefault(kind, dict.fromkeys(("training", "attacks", "audits", "waiting"), 0.0))
        seconds = (unit.finished or unit.started or 0.0) - (unit.started or 0.0)
        part["training"] += devices * unit.train_seconds / _HOUR
        part["attacks"] += devices * unit.attack_seconds / _HOUR
        part["waiting"] += devices * max(seconds - unit.train_seconds - unit.attack_seconds, 0.0) / _HOUR
        if unit.number in data.audits:
            part["audits"] += devices * data.audits[unit.number]["seconds"] / _HOUR
    began = min(each.started for each in units if each.started is not None)
    ended = max((each.finished for each in units if each.finished is not None), default=began)
    total = {name: sum(part[name] for part in spent.values()) for name in next(iter(spent.values()))}
    hours = sum(total.values())
    largest = max(total, key=lambda name: total[name])
    from analysis.figures.plots import bar_figure

    return Card(
        sentence=(
            f"{len(units)} networks took {clock(ended - began)} from the first start to the last end and used "
            f"{hours:.2g} {device}-hours, the largest part for {largest} ({100 * total[largest] / (hours or 1):.0f} %)."
        ),
        graphics=[Graphic.of(bar_figure(spent, f"{device}-hours"), f"{device}-hours by purpose.")],
        tables=[
            Table(
                f"{device}-hours",
                ["purpose", *total],
                [
                    [Cell(kind), *(number_cell(part[name], f"{part[name]:.3f}") for name in total)]
                    for kind, part in spent.items()
                ]
                + [[Cell("all"), *(number_cell(value, f"{value:.3f}") for value in total.values())]],
            )
        ],
        notes=[
            "Waiting: time between a network's start and end without training or attack, for example after a restart."
        ],
        downloads={"cost.csv": csv_of([{"what": kind, **part} for kind, part in spent.items()])},
    )
