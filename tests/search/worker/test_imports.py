"""Which modules a worker can reach, over any number of imports."""

from __future__ import annotations

import subprocess
import sys

import grimp
import pytest

TEST_IMAGES = "trainables.data.partition.test_images"
OPENINGS = "trainables.data.partition.test_openings"


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("search", "trainables", "analysis", include_external_packages=True, cache_dir=None)


def test_only_digests_and_openings_read_test_images(graph: grimp.ImportGraph) -> None:
    importers = graph.find_modules_that_directly_import
    assert importers(TEST_IMAGES) == {"trainables.data.partition.digests", OPENINGS}
    assert importers(OPENINGS) == {"search.evaluation.test_split"}


@pytest.mark.parametrize("target", [TEST_IMAGES, OPENINGS, "rich", "typer", "optuna", "mlflow"])
def test_a_worker_cannot_reach_what_is_the_drivers(graph: grimp.ImportGraph, target: str) -> None:
    chain = graph.find_shortest_chain("search.worker", target, as_packages=True)
    assert chain is None, " -> ".join(chain)


def test_what_runs_as_a_task_imports_neither_ray_nor_torch_at_once() -> None:
    code = "import sys, search.worker.tasks; print({'ray', 'torch', 'optuna', 'mlflow', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
