"""How MLflow's UI shows a sweep: three saved views, and links to them.

MLflow opens an experiment with only the sweep's run visible, its trials folded away and no parameter or metric shown.
``settings`` lists a sweep's settings with what a person wants to know of each, the most robust first, and has their
charts. ``front`` lists the Pareto-optimal ones alone. ``curves`` draws how the sweep itself went. MLflow keeps views in
tags of the experiment, in an undocumented format of its UI (3.17), so every link also works without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import urlencode

from search.results.text import short
from trainables.metrics import ROBUST

SWEEP_TAG: Final = "robustfront.sweep"
KIND_TAG: Final = "robustfront.kind"
STATE_TAG: Final = "robustfront.state"
FRONT_TAG: Final = "robustfront.front"
SWEEP_KIND: Final = "sweep"
ABOVE_KIND: Final = "comparison"
REPLICATES_KIND: Final = "replicates"  # as `analysis.records.Kind`

# What the views show of a setting, beside its objectives. MLflow sorts by metrics but not by tags.
VERIFIED_METRIC: Final = "verified"
VERDICT_TAG: Final = "verdict"
SEEDS_TAG: Final = "seeds"

View = Literal["settings", "front", "curves"]
VIEWS: Final[
    Mapping[View, str]
] = {  # prefixes of the views' keys, none of which a sweep's name can complete to another
    "settings": "robustfront-",
    "front": "robustfront.front-",
    "curves": "robustfront.curves-",
}

_LOSS: Final = "validation_loss"
_SWEEP_CURVES: Final = ("hypervolume", "trials_finished")
_SECTION: Final = "sweep"
_CREATED: Final = 0  # a fixed time, so that saving the same view again changes nothing

# Names of columns in MLflow's table, and widths in pixels at which all columns of a setting with two parameters fit
# beside MLflow's assistant, which opens by itself on the first visit and takes a third of a window of 1400 pixels.
_NAME, _DATE, _DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"
_NAME_WIDTH, _DATE_WIDTH, _WIDTH = 195, 44, 66
_WIDTHS: Final = {f"tags.`{VERDICT_TAG}`": 88, f"tags.`{SEEDS_TAG}`": 52, f"metrics.`{VERIFIED_METRIC}`": 70}


def setting_metric(objective: str) -> str:
    """The metric that holds an objective's value of a whole setting, e.g. ``clean``, on the run of its first seed."""
    return short(objective)


def view_tag(sweep: str, view: View = "settings") -> str:
    """The experiment's tag that holds a view of the sweep."""
    return f"mlflow.sharedViewState.{_view_key(sweep, view)}"


def saved_views(sweep: str, parameters: Sequence[str], objectives: Sequence[str]) -> dict[str, str]:
    """All views of a sweep, as MLflow's UI saves them: the experiment's tags and their content.

    The charts use the first two searched parameters. Robust accuracy sorts the settings, highest first; without it, the
    last objective does.
    """
    metrics = [setting_metric(name) for name in objectives]
    columns = setting_columns(parameters, objectives)
    settings = {
        # MLflow lists children flat, not folded into their parent, only when they are sorted by a metric.
        "orderByKey": f"metrics.`{setting_metric(ROBUST) if ROBUST in objectives else metrics[-1]}`",
        "selectedColumns": columns,
        "columnOrder": [_NAME, _DATE, *columns, _DURATION],
        "columnWidths": {
            _NAME: _NAME_WIDTH,
            _DATE: _DATE_WIDTH,
            **{column: _WIDTHS.get(column, _WIDTH) for column in columns},
        },
        "compareRunCharts": _cards(_charts(parameters, metrics)),
    }
    curves = [*_SWEEP_CURVES, *(f"best_{name}" for name in objectives)]
    progress = {
        "orderByKey": "attributes.start_time",
        "selectedColumns": [f"metrics.`{name}`" for name in curves],
        "compareRunCharts": _cards([_line(name) for name in curves]),
    }
    states: Mapping[View, Mapping[str, Any]] = {"settings": settings, "front": settings, "curves": progress}
    return {view_tag(sweep, view): _saved(sweep, view, state) for view, state in states.items()}


def setting_columns(parameters: Sequence[str], objectives: Sequence[str]) -> list[str]:
    """The columns of a setting in MLflow's table, in order: parameters, objectives, verified, verdict, seeds."""
    metrics = [setting_metric(name) for name in objectives] + ([VERIFIED_METRIC] if ROBUST in objectives else [])
    return [
        *(f"params.`{name}`" for name in parameters),
        *(f"metrics.`{name}`" for name in metrics),
        *(f"tags.`{name}`" for name in (VERDICT_TAG, SEEDS_TAG)),
    ]


def _saved(sweep: str, view: View, state: Mapping[str, Any]) -> str:
    common = {
        "searchFilter": _filter(sweep, view),
        "orderByAsc": "false",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "runsHiddenMode": "SHOW_ALL",
        "runListHidden": True,  # beside charts
        "compareRunSections": [{"uuid": _SECTION, "name": f"Sweep {sweep}", "display": True, "isReordered": False}],
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "isAccordionReordered": True,  # otherwise the UI sorts our section behind those that it generates
    }
    name = f"{sweep}: {view}"
    saved = {"name": name, "createdAt": _CREATED, "updatedAt": _CREATED, "state": json.dumps({**common, **state})}
    return json.dumps(saved)


def sweep_url(
    server: str, experiment_id: str, sweep: str, view: View = "settings", *, saved: bool, charts: bool = False
) -> str:
    """The page of one of a sweep's views, as a table or with its charts.

    ``saved`` says whether the experiment holds the view; without it, MLflow chooses the columns and charts.
    """
    facets = {"viewStateShareKey": _view_key(sweep, view)} if saved else {"searchFilter": _filter(sweep, view)}
    mode = {"compareRunsMode": "CHART"} if charts else {}
    return f"{experiment_url(server, experiment_id)}&{urlencode(facets | mode)}"


def experiment_url(server: str, experiment_id: str) -> str:
    """The page that lists an experiment's runs; MLflow's own link to an experiment may open another page."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def _view_key(sweep: str, view: View) -> str:
    return f"{VIEWS[view]}{sweep}"


def _filter(sweep: str, view: View) -> str:
    """MLflow's search for the runs of a view."""
    of_sweep = f"tags.`{SWEEP_TAG}` = '{sweep}'"
    if view == "curves":
        return f"{of_sweep} AND tags.`{KIND_TAG}` = '{SWEEP_KIND}'"
    if view == "front":
        return f"{of_sweep} AND tags.`{FRONT_TAG}` = 'true'"
    return f"{of_sweep} AND tags.`{KIND_TAG}` != '{SWEEP_KIND}' AND tags.`{KIND_TAG}` != '{REPLICATES_KIND}'"


def _charts(parameters: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    values = [{"key": name, "type": "METRIC"} for name in metrics]
    axes = [{"key": name, "type": "PARAM"} for name in parameters]
    charts: list[dict[str, Any]] = []
    if len(values) >= 2:
        charts.append({"type": "SCATTER", "xaxis": values[0], "yaxis": values[1]})
    if len(axes) >= 2:
        charts += [{"type": "CONTOUR", "xaxis": axes[0], "yaxis": axes[1], "zaxis": value} for value in values]
    charts.append({"type": "PARALLEL", "selectedParams": list(parameters), "selectedMetrics": list(metrics)})
    charts.append(_line(_LOSS))
    return charts


def _line(metric: str) -> dict[str, Any]:
    return {"type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric], "lineSmoothness": 0}


def _cards(charts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    common = {"runsCountToCompare": 100, "metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return [{"uuid": f"{_SECTION}-{index}", **common, **chart} for index, chart in enumerate(charts)]
