"""The saved views of a sweep, as MLflow's UI reads them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from search.tracking.view import VIEWS, saved_views, sweep_url, view_tag

PARAMETERS, OBJECTIVES = ("s", "m"), ("clean_accuracy", "robust_accuracy")
LONGEST = 5000  # characters of a tag that servers of the last years take


def state(view: Any, parameters: tuple[str, ...] = PARAMETERS) -> dict[str, Any]:
    saved = saved_views("quick", parameters, OBJECTIVES)[view_tag("quick", view)]
    content: dict[str, Any] = json.loads(json.loads(saved)["state"])
    return content


def test_a_settings_columns_stand_in_the_order_in_which_a_person_reads_them() -> None:
    settings = state("settings")
    columns = [f"params.`{name}`" for name in PARAMETERS]
    columns += [f"metrics.`{name}`" for name in ("clean", "robust", "verified")] + ["tags.`verdict`", "tags.`seeds`"]
    assert settings["selectedColumns"] == columns
    assert [column for column in settings["columnOrder"] if column in columns] == columns
    assert set(columns) <= set(settings["columnWidths"])
    assert settings["orderByKey"] == "metrics.`robust`"


def test_contours_need_two_parameters() -> None:
    kinds = [chart["type"] for chart in state("settings")["compareRunCharts"]]
    assert kinds == ["SCATTER", "CONTOUR", "CONTOUR", "PARALLEL", "LINE"]
    assert "CONTOUR" not in [chart["type"] for chart in state("settings", ("s",))["compareRunCharts"]]


def test_views_search_for_different_runs() -> None:
    filters = {view: state(view)["searchFilter"] for view in VIEWS}
    assert all(condition.startswith("tags.`robustfront.sweep` = 'quick' AND ") for condition in filters.values())
    assert filters["front"].endswith("tags.`robustfront.front` = 'true'")
    assert filters["curves"].endswith("tags.`robustfront.kind` = 'sweep'")
    assert len(set(filters.values())) == len(VIEWS)


def test_a_sweeps_name_cannot_lead_to_another_sweeps_view() -> None:
    names = ("a", "front-a", "a-front", "curves-a", "front")
    assert len({view_tag(name, view) for name in names for view in VIEWS}) == len(names) * len(VIEWS)


def test_views_fit_into_a_tag() -> None:
    many = saved_views("quick", [f"train.parameter_{index}" for index in range(6)], OBJECTIVES)
    assert all(len(view) <= LONGEST for view in many.values())


def test_a_link_works_without_a_saved_view() -> None:
    for view in VIEWS:
        url = sweep_url("http://here/", "7", "quick", view, saved=False, charts=True)
        query = parse_qs(urlsplit(url).fragment.partition("?")[2])
        assert query["searchFilter"] == [state(view)["searchFilter"]]
        assert query["compareRunsMode"] == ["CHART"]
