"""Accuracy over two parameters, with its uncertainty: the panels of the paper's Figure 4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from analysis.matters import label
from search.report.card import Card, Graphic, csv_of
from search.report.data import ReportData
from search.results.reports.surfaces import claims

if TYPE_CHECKING:
    from analysis.figures.surfaces import Panel

TITLE = "Accuracy over the parameters"

_SIZE: Final = 0.7  # two pictures side by side


def card(data: ReportData) -> Card:
    """One picture per measure."""
    from analysis.figures.style import png
    from analysis.figures.surfaces import how_to_read, panel_figure, plan_panels
    from analysis.frames import to_frame

    frame = to_frame(claims(data.data))
    planned = plan_panels(frame, data.config.objectives, data.config.domains)
    if isinstance(planned, str):
        return Card(planned)
    panels, plan = planned
    note = how_to_read(frame, panels, plan)
    return Card(
        sentence=_sentence(data, panels),
        graphics=[Graphic.png(png(panel_figure(panel, _SIZE), bare=True), panel.label, 5.6) for panel in panels],
        notes=[note],
        downloads={"surfaces.csv": csv_of([row for panel in panels for row in _rows(panel)])},
    )


def _sentence(data: ReportData, panels: list[Panel]) -> str:
    """The range of the surface of the main objective, and its uncertainty."""
    panel = next(panel for panel in panels if panel.measure == data.aim)
    over = " and ".join(panel.axes)
    if panel.surface is None:
        low, high = float(panel.values.min()), float(panel.values.max())
        return f"Over {over}, measured {label(data.aim)} lies between {low:.1f} and {high:.1f}{panel.scale.unit}."
    low, high = float(panel.surface.mean.min()), float(panel.surface.mean.max())
    kind = "fitted" if panel.surface.fitted else "measured"
    band = panel.band()
    width = f", with an uncertainty of up to ± {np.max(band[1] - band[0]) / 2:.1f}" if band is not None else ""
    return f"Over {over}, {kind} {label(data.aim)} lies between {low:.1f} and {high:.1f}{panel.scale.unit}{width}."


def _rows(panel: Panel) -> list[dict[str, object]]:
    """The measured points, then the surface, of one panel."""
    from analysis.gaussian_process import values_at

    names = list(panel.axes)
    x, y = (values_at(along, domain) for along, domain in zip(panel.points.T, panel.axes.values(), strict=True))
    rows: list[dict[str, object]] = [
        {"measure": panel.measure, "kind": "measured", names[0]: a, names[1]: b, "value": v, "low": low, "high": high}
        for a, b, v, low, high in zip(x, y, panel.values, panel.low, panel.high, strict=True)
    ]
    surface = panel.surface
    if surface is None:
        return rows
    low, high = panel.band() or (surface.mean, surface.mean)
    x, y = (values_at(along, domain) for along, domain in zip((surface.x, surface.y), panel.axes.values(), strict=True))
    kind = "fitted" if surface.fitted else "grid"
    return rows + [
        {
            "measure": panel.measure,
            "kind": kind,
            names[0]: a,
            names[1]: b,
            "value": surface.mean[j, i],
            "low": low[j, i],
            "high": high[j, i],
        }
        for j, b in enumerate(y)
        for i, a in enumerate(x)
    ]
