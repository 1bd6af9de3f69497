"""The evaluation of the recommended setting and the baselines on the test split, if there was one."""

from __future__ import annotations

from analysis.export import flattered
from analysis.matters import label
from analysis.statistics import Interval
from search.report.card import Card, Cell, Graphic, Table, csv, measured_cell
from search.report.data import ReportData
from trainables.metrics import is_accuracy

TITLE = "On test images"


def card(data: ReportData) -> Card | None:
    """Validation and test numbers side by side; None if the split has not been opened."""
    tested = data.tested
    if not tested.openings or not tested.trials:
        return None
    from analysis.figures.plots import Intervals, Row, interval_figure
    from analysis.figures.style import BLUE, GREY
    from analysis.frames import to_frame

    settings = [data.by_number[number] for number in tested.trials if number in data.by_number]
    panels, rows, worse = [], [], []
    names = [name for name in data.objectives if is_accuracy(name)]
    for name in names:
        lines = []
        for setting in settings:
            record = tested.trials[setting.number]
            who = f"trial {setting.number}" if not setting.is_baseline else f"baseline {setting.number}"
            for each, kind, colour in ((setting, f"{who}: validation", GREY), (record, "test", BLUE)):
                low, high = each.interval(name)
                lines.append(Row(kind, 100 * each.objectives[name], Interval(100 * low, 100 * high), colour))
        panels.append(Intervals(f"{label(name).capitalize()} (%)", lines))
    for setting in settings:
        record, below = tested.trials[setting.number], flattered(setting, tested.trials[setting.number])
        worse += [data.name(setting)] if below else []
        cells = [measured_cell(each, name) for name in names for each in (setting, record)]
        rows.append([Cell(data.name(setting)), *cells, Cell(", ".join(map(label, below)))])
    times = "once" if tested.openings == 1 else f"{tested.openings} times"
    lower = f"lower by more than chance for {', '.join(worse)}" if worse else "not lower by more than chance"
    return Card(
        sentence=f"The test images were used {times}. Compared with validation, accuracy is {lower}.",
        graphics=[Graphic.of(interval_figure(panels), "Validation and test accuracy. Bars: 95 % intervals.")],
        tables=[
            Table(
                "On validation and test images",
                [
                    "setting",
                    *(f"{label(name)}, {kind}" for name in names for kind in ("validation", "test")),
                    "lower in",
                ],
                rows,
            )
        ],
        downloads={"test.csv": csv(to_frame(tested.trials.values()))},
    )
