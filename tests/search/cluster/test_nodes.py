"""What makes a node fit for a sweep, and how many trials nodes hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.cluster.nodes import Node, marker_beside
from search.cluster.session import capacity
from tests.search.examples import small_config


def test_the_marker_lies_in_the_nearest_folder_that_is_there_and_goes_away(tmp_path: Path) -> None:
    with marker_beside(tmp_path / "runs" / "quickstart") as marker:
        assert marker.parent == tmp_path
        assert marker.read_text()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cpus", "gpus", "nodes", "fit"),
    [
        (1, 0.0, [(2, 0), (3, 0)], 5),
        (2, 0.0, [(3, 0), (3, 0)], 2),  # no trial is spread over two nodes
        (1, 0.4, [(8, 2)], 4),  # and no fraction over two GPUs
        (1, 0.25, [(3, 1), (8, 0)], 3),  # a node without GPUs holds none
        (1, 1 / 3, [(8, 1)], 3),
        (1, 2.0, [(8, 3), (8, 4)], 3),
    ],
)
def test_capacity_is_what_fits_each_node(cpus: int, gpus: float, nodes: list[tuple[int, int]], fit: int) -> None:
    config = small_config(resources={"cpus_per_trial": cpus, "gpus_per_trial": gpus})
    assert capacity(config, [Node(str(i), f"10.0.0.{i}", *have) for i, have in enumerate(nodes)]) == fit
