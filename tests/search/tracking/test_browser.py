"""A sweep's views in MLflow's own UI, at a laptop's width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from search.tracking.mirror import Setting
from search.tracking.queue import Tracker
from search.tracking.ui import links, running_server
from tests.browser import MARKS, chromium, open_at, wait_until
from tests.search.tracking.examples import EXPERIMENT, free_port, parent, trial

# What MLflow itself calls is not ours to change.
pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

WIDTH = 1400
SETTINGS, FRONT = 8, {"5", "6", "7"}
WAIT = 120.0  # seconds for MLflow's page on a busy machine

HEADINGS = """[...document.querySelectorAll('.ag-header-cell')].map(cell => [
    cell.innerText.trim(), cell.getBoundingClientRect().left, cell.getBoundingClientRect().right
]).filter(([name]) => name).sort((a, b) => a[1] - b[1])"""
# The names of the runs, from top to bottom.
ROWS = """[...document.querySelectorAll('.ag-pinned-left-cols-container .ag-row')]
    .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))
    .flatMap(row => [...row.querySelectorAll('a')].map(link => link.innerText.trim()).filter(name => name))"""
RIGHT_EDGE = "document.querySelector('.ag-center-cols-viewport').getBoundingClientRect().right"
# Each plot's traces: the kind, how many points have all coordinates, and how many markers are drawn.
PLOTS = """[...document.querySelectorAll('.js-plotly-plot')].map(plot => ({
    drawn: plot.querySelectorAll('.scatterlayer .point').length,
    traces: plot.data.map(trace => ({type: trace.type, points: (trace.x || []).length, z: (trace.z || []).length}))
}))"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The links to the views of a sweep of eight settings, three of them on the front."""
    folder = tmp_path_factory.mktemp("runs")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    tracker = Tracker(uri, EXPERIMENT, "quick", artifact_root=folder / "artifacts")
    tracker.start(parent(folder))
    for number in range(SETTINGS):
        objectives = {"clean_accuracy": 0.98 - number / 100, "robust_accuracy": 0.1 + number / 23}
        record, history = trial(
            str(number),
            parameters={"s": 1 + number / 7, "m": (number * 3 % SETTINGS) / 70},
            objectives=objectives,
        )
        audited = {"verdict": "suspicious", "accuracies": {"claimed_accuracy": objectives["robust_accuracy"]}}
        tracker.update(record, history, Setting(replace(record, **(audited if number == 7 else {})), 1))
        tracker.summary({"hypervolume": number / 10, "trials_finished": number}, number + 1, float(number))
    tracker.front(FRONT)
    tracker.results("**Answer**: trial 7", '{"columns": ["number"], "data": [[7]]}')
    assert tracker.close("FINISHED", 120) is None
    with running_server(uri, folder / "artifacts", free_port()) as (server, _):
        yield dict(line.split(maxsplit=1) for line in links(uri, server, EXPERIMENT, "quick").splitlines())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as chrome:
        yield chrome


def opened(browser: Any, address: str, condition: str) -> None:
    browser.get("about:blank")  # MLflow's links differ only in their fragment
    open_at(browser, address, WIDTH)
    wait_until(browser, condition, WAIT)


def test_columns_stand_in_order_and_within_the_window(pages: dict[str, str], browser: Any) -> None:
    opened(browser, pages["settings"], f"({ROWS}).length >= {SETTINGS}")
    wanted = ["s", "m", "clean", "robust", "verified", "verdict", "seeds"]
    headings = browser.execute_script(f"return {HEADINGS}")
    assert [name for name, _, _ in headings if name in wanted] == wanted
    assert [name for name, _, _ in headings][: 2 + len(wanted)] == ["Run Name", "Created", *wanted]
    edge = browser.execute_script(f"return {RIGHT_EDGE}")
    assert max(right for name, _, right in headings if name in wanted) <= edge <= WIDTH
    rows = browser.execute_script(f"return {ROWS}")
    assert [row.split(":")[0] for row in rows] == [f"trial {number}" for number in reversed(range(SETTINGS))]
    assert rows[-1] == "trial 0: s=1 m=0"


def test_charts_have_points(pages: dict[str, str], browser: Any) -> None:
    opened(browser, pages["charts"], f"({PLOTS}).filter(plot => plot.drawn >= {SETTINGS}).length >= 3")
    plots = browser.execute_script(f"return {PLOTS}")
    kinds = [[trace["type"] for trace in plot["traces"]] for plot in plots]
    assert kinds[:3] == [["scatter"], ["contour", "scatter"], ["contour", "scatter"]]
    for plot in plots[:3]:
        assert plot["drawn"] == SETTINGS
        assert all(trace["points"] == SETTINGS for trace in plot["traces"])
    assert all(plot["traces"][0]["z"] == SETTINGS for plot in plots[1:3])


def test_the_front_is_alone(pages: dict[str, str], browser: Any) -> None:
    opened(browser, pages["front"], f"({ROWS}).length >= {len(FRONT)}")
    rows = browser.execute_script(f"return {ROWS}")
    assert {row.split(":")[0] for row in rows} == {f"trial {number}" for number in FRONT}


def test_the_sweep_has_its_own_curves(pages: dict[str, str], browser: Any) -> None:
    lines = "document.querySelectorAll('.js-plotly-plot .scatterlayer path.js-line').length"
    opened(browser, pages["curves"], f"{lines} >= 2")
    plots = browser.execute_script(f"return {PLOTS}")
    assert [plot["traces"][0]["points"] for plot in plots[:2]] == [SETTINGS, SETTINGS]
