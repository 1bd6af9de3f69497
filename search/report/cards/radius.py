"""Accuracy over the radius, and the area under that curve, of the front and the baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis.records import TrialRecord
from search.report.card import Card, Cell, Graphic, Table, csv_of, number_cell
from search.report.data import ReportData, shown
from search.results.text import radius_title
from trainables.metrics import CLEAN, ROBUST, at_radius

TITLE = "Accuracy over the radius"

_NEAR_ZERO: Final = 0.01  # accuracy


@dataclass(frozen=True)
class _Curve:
    """Accuracy (fractions) of a setting over the radius, with 95 % intervals; ``source`` is ``audit`` or ``sweep``."""

    setting: TrialRecord
    source: str
    points: list[tuple[float, float, float, float]]  # radius, accuracy, low, high

    def area(self, column: int, end: float) -> float:
        """The area under the curve up to a radius, by the trapezoidal rule."""
        radii = np.array([point[0] for point in self.points])
        values = np.array([point[column] for point in self.points])
        within = radii < end
        x = np.append(radii[within], end)
        return float(np.trapezoid(np.append(values[within], np.interp(end, radii, values)), x))


def card(data: ReportData) -> Card:
    """The curves of the audits; if there are none, the points that the sweep measured."""
    chosen = [data.recommended, *data.data.front, *data.baselines]
    settings = list({each.number: each for each in chosen if each is not None}.values())
    curves = [curve for each in settings if (curve := _curve(data, each)) is not None]
    if not curves:
        return Card("No accuracy was measured at any radius.")
    # Values from audits and values from the sweep's own attacks are not comparable.
    audited = [curve for curve in curves if curve.source == "audit"]
    compared = audited or curves
    end = _end(compared)
    from analysis.figures.plots import Line, line_figure

    lines = []
    for curve in compared:
        radii, values, low, high = (list(each) for each in zip(*curve.points, strict=True))
        name = data.name(curve.setting) if curve.setting.is_baseline else f"trial {curve.setting.number}"
        y, below, above = ([100 * value for value in each] for each in (values, low, high))
        lines.append(Line(name, radii, y, below, above, curve.setting.is_baseline))
    axis = radius_title(data.sweep.config.robustness)
    mark = data.sweep.config.robustness.epsilons[0] if not audited else _audited_radius(data)
    missing = ", ".join(data.name(curve.setting) for curve in curves if curve not in compared)
    notes = [
        f"Area: the mean radius, up to {end:.3g}, within which an image keeps its label under these attacks. "
        "Its interval is between the areas under the lower and upper ends of the curve's intervals."
    ]
    if audited:
        notes.append(
            "The audits measured this on their first images with a short attack per radius, so it is an upper bound."
        )
    notes += [f"Not drawn, because not audited: {missing}."] if missing else []
    return Card(
        sentence=_sentence(data, compared, end),
        graphics=[
            Graphic.of(
                line_figure(lines, axis, "Accuracy (%)", mark, end),
                "Accuracy over the radius. Bands: 95 % intervals. Dashed vertical line: the radius of the sweep.",
            )
        ],
        tables=[_table(data, compared, end)],
        notes=notes,
        downloads={"radius.csv": csv_of(_rows(compared))},
    )


def _end(curves: list[_Curve]) -> float:
    """The radius up to which curves are compared: where all are at most 1 %, or where the shortest curve ends."""
    zeros = [min((point[0] for point in curve.points if point[1] <= _NEAR_ZERO), default=math.inf) for curve in curves]
    return min(max(zeros), min(curve.points[-1][0] for curve in curves))


def _audited_radius(data: ReportData) -> float:
    return float(next(iter(data.audits.values()))["radius"])


def _curve(data: ReportData, setting: TrialRecord) -> _Curve | None:
    replicates = [each for audit in data.audits_of(setting).values() for each in audit["replicates"] if each["curve"]]
    if replicates:
        return _Curve(setting, "audit", list(_mean_curve(replicates)))
    record = shown(setting)
    names = [ROBUST, *(at_radius(epsilon) for epsilon in data.sweep.config.robustness.epsilons[1:])]
    points = [(0.0, CLEAN), *zip(data.sweep.config.robustness.epsilons, names, strict=True)]
    measured = [
        (radius, record.value(name), *record.interval(name))
        for radius, name in sorted(points)
        if name in record.objectives or name in record.accuracies
    ]
    return _Curve(setting, "sweep", measured) if len(measured) > 1 else None


def _mean_curve(replicates: list[dict[str, Any]]) -> Iterable[tuple[float, float, float, float]]:
    """The mean curve of the audited networks, with the Wilson interval for the images of one network."""
    from analysis.statistics import wilson_interval

    images = replicates[0]["curve"][0]["images"]
    by_radius: dict[float, list[float]] = {0.0: [each["curve_clean"] for each in replicates]}
    for replicate in replicates:
        for point in replicate["curve"]:
            by_radius.setdefault(point["radius"], []).append(point["accuracy"])
    for radius, values in sorted(by_radius.items()):
        if len(values) == len(replicates):
            mean = float(np.mean(values))
            yield (radius, mean, *wilson_interval(round(mean * images), images))


def _sentence(data: ReportData, curves: list[_Curve], end: float) -> str:
    best = max(curves, key=lambda curve: curve.area(1, end))
    area, low, high = (best.area(column, end) for column in (1, 2, 3))
    others = [curve for curve in curves if curve is not best]
    clear = bool(others) and all(low > curve.area(3, end) for curve in others)
    lead = (
        "has the largest area under the curve"
        if clear or not others
        else "has the largest area under the curve, but other intervals overlap with its interval"
    )
    name = data.name(best.setting)
    return f"{name[0].upper()}{name[1:]} {lead}: {area:.2f} ({low:.2f} to {high:.2f})."


def _table(data: ReportData, curves: list[_Curve], end: float) -> Table:
    rows = []
    for curve in curves:
        area, low, high = (curve.area(column, end) for column in (1, 2, 3))
        rows.append(
            [
                Cell(data.name(curve.setting)),
                number_cell(area, f"{area:.3f} ({low:.3f} to {high:.3f})"),
                Cell(curve.source),
            ]
        )
    return Table(f"Area under the curve up to a radius of {end:.3g}", ["setting", "area", "measured by"], rows)


def _rows(curves: list[_Curve]) -> list[dict[str, object]]:
    return [
        {
            "setting": curve.setting.number,
            "source": curve.source,
            "radius": radius,
            "accuracy": value,
            "low": low,
            "high": high,
        }
        for curve in curves
        for radius, value, low, high in curve.points
    ]
