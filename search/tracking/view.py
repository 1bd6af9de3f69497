"""How MLflow's UI shows a sweep: a saved view of its trials, and links to it.

MLflow opens an experiment with only the sweep's run visible, its trials folded away and no parameter or metric shown. A
saved view lists the trials with what matters, best first, and draws the charts of a sweep. MLflow keeps views in tags
of the experiment, in an undocumented format of its UI (3.17), so every link also works without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

SWEEP_TAG: Final = "robustfront.sweep"
KIND_TAG: Final = "robustfront.kind"
STATE_TAG: Final = "robustfront.state"
SWEEP_KIND: Final = "sweep"
ABOVE_KIND: Final = "comparison"

_CURVES: Final = ("validation_loss", "validation_accuracy")
_SECTION: Final = "sweep"
_CREATED: Final = 0  # a fixed time, so that saving the same view again changes nothing


def view_tag(sweep: str) -> str:
    """The experiment's tag that holds the sweep's view."""
    return f"mlflow.sharedViewState.{_view_key(sweep)}"


def saved_view(sweep: str, parameters: Sequence[str], objectives: Sequence[str]) -> str:
    """A view of a sweep's trials, as MLflow's UI saves one: the content of the tag ``view_tag(sweep)``.

    The charts use the first two searched parameters. The last objective sorts the table, highest first.
    """
    columns = [*(f"params.`{name}`" for name in parameters), *(f"metrics.`{name}`" for name in objectives)]
    columns += [f"metrics.`{_CURVES[-1]}`", f"tags.`{STATE_TAG}`"]
    state = {
        "searchFilter": _trials_of(sweep),
        # MLflow lists children flat, not folded into their parent, only when they are sorted by a metric.
        "orderByKey": f"metrics.`{objectives[-1]}`",
        "orderByAsc": "false",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "runsHiddenMode": "SHOWALL",
        "compareRunCharts": _charts(parameters, objectives),
        "compareRunSections": [{"uuid": _SECTION, "name": f"Sweep {sweep}", "display": True, "isReordered": False}],
        "isAccordionReordered": True,  # otherwise the UI sorts our section behind those that it generates
    }
    view = {"name": f"sweep {sweep}", "createdAt": _CREATED, "updatedAt": _CREATED, "state": json.dumps(state)}
    return json.dumps(view)


def sweep_url(server: str, experiment_id: str, sweep: str, *, view: bool) -> str:
    """The page that lists a sweep's trials and nothing else; ``view`` says whether the experiment holds their view."""
    facets = {"viewStateShareKey": _view_key(sweep)} if view else {"searchFilter": _trials_of(sweep)}
    return f"{experiment_url(server, experiment_id)}&{urlencode(facets)}"


def experiment_url(server: str, experiment_id: str) -> str:
    """The page that lists an experiment's runs; MLflow's own link to an experiment may open another page."""
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def _view_key(sweep: str) -> str:
    return f"robustfront-{sweep}"


def _trials_of(sweep: str) -> str:
    return f"tags.`{SWEEP_TAG}` = '{sweep}' AND tags.`{KIND_TAG}` != '{SWEEP_KIND}'"


def _charts(parameters: Sequence[str], objectives: Sequence[str]) -> list[dict[str, Any]]:
    metrics = [{"key": name, "type": "METRIC"} for name in objectives]
    axes = [{"key": name, "type": "PARAM"} for name in parameters]
    charts: list[Mapping[str, Any]] = [{"type": "SCATTER", "xaxis": metrics[0], "yaxis": metrics[1]}]
    if len(axes) >= 2:
        charts += [{"type": "CONTOUR", "xaxis": axes[0], "yaxis": axes[1], "zaxis": metric} for metric in metrics]
    charts.append({"type": "PARALLEL", "selectedParams": list(parameters), "selectedMetrics": list(objectives)})
    charts += [{"type": "LINE", "metricKey": name, "selectedMetricKeys": [name]} for name in _CURVES]
    common = {"runsCountToCompare": 100, "metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return [{"uuid": f"{_SECTION}-{index}", **common, **chart} for index, chart in enumerate(charts)]
