"""Exported networks as LoggedModels, in a real SQLite store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient

from search.tracking.models import ExportedNetwork, log_network
from tests.search.tracking.examples import EXPERIMENT, Shown, mirror, parent, trial

# What MLflow itself calls is not ours to change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

IMAGES = torch.linspace(0, 1, 2 * 16).reshape(2, 1, 4, 4)


def network(folder: Path, **changes: Any) -> ExportedNetwork:
    record, _ = trial("0")
    dataset = parent(folder).dataset
    assert dataset is not None
    known = ExportedNetwork(
        sweep="quick.v2",
        identity="first",
        setting="0",
        unit=record,
        seed=11,
        values={"clean_accuracy": 0.97, "robust_accuracy": 0.41},
        dataset=dataset,
        digest="cd" * 32,
    )
    return replace(known, **changes)


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)).eval()


def logged(store: str) -> list[Any]:
    client = MlflowClient(store, store)
    return list(client.search_logged_models([Shown(store).experiment.experiment_id]))


def test_a_network_is_a_model_with_signature_example_and_linked_metrics(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0")])
    before = Shown(store).trials["0"]
    for _ in range(2):  # the second time changes nothing
        assert log_network(store, EXPERIMENT, network(tmp_path), model(), IMAGES) is None
    (shown,) = logged(store)
    assert (shown.name, shown.status, shown.source_run_id) == ("quick-v2 0 seed 11", "READY", before.info.run_id)
    assert shown.params.items() >= {"s": "1.25", "m": repr(0.1 / 3), "seed": "11", "setting": "0"}.items()
    dataset = ("mnist5k", ("ab" * 32)[:36])
    metrics = {each.key: (each.value, each.dataset_name, each.dataset_digest) for each in shown.metrics}
    assert metrics == {"clean_accuracy": (0.97, *dataset), "robust_accuracy": (0.41, *dataset)}
    assert len(shown.metrics) == 2

    mlflow.set_tracking_uri(store)
    info = mlflow.models.get_model_info(f"models:/{shown.model_id}")
    assert info.signature.inputs.inputs[0].shape == (-1, 1, 4, 4)
    assert info.signature.outputs.inputs[0].shape == (-1, 3)
    loaded = mlflow.pyfunc.load_model(f"models:/{shown.model_id}")
    assert torch.equal(torch.as_tensor(loaded.input_example), IMAGES)
    for images in (IMAGES, torch.cat([IMAGES, IMAGES, IMAGES])):
        assert torch.allclose(torch.as_tensor(loaded.predict(images.numpy())), model()(images))

    after = Shown(store)
    assert after.trials["0"].data.metrics == before.data.metrics
    assert after.history(after.trials["0"], "robust_accuracy") == [(3, 0.41)]
    (output,) = after.trials["0"].outputs.model_outputs
    assert output.model_id == shown.model_id


def test_an_audit_adds_its_number_and_another_network_its_model(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0")])
    log_network(store, EXPERIMENT, network(tmp_path), model(), IMAGES)
    values = {"robust_accuracy": 0.41, "audited_accuracy": 0.3}
    log_network(store, EXPERIMENT, network(tmp_path, values=values), model(), IMAGES)
    (shown,) = logged(store)
    assert {each.key: each.value for each in shown.metrics} == {"clean_accuracy": 0.97, **values}
    log_network(store, EXPERIMENT, network(tmp_path, digest="ef" * 32), model(), IMAGES)
    assert len(logged(store)) == 2


def test_what_mlflow_lacks_is_one_line(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("1")])
    lack = log_network(store, EXPERIMENT, network(tmp_path), model(), IMAGES)
    assert lack is not None
    assert "there is no run of trial 0; `robustfront resume` writes it" in lack
    nowhere = tmp_path / "nowhere.db"
    lack = log_network(f"sqlite:///{nowhere}", EXPERIMENT, network(tmp_path), model(), IMAGES)
    assert lack is not None
    assert lack.startswith("MLflow lacks the exported network (")
    assert not nowhere.exists()
