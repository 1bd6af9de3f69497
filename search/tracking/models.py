"""Exported networks as MLflow's LoggedModels, with a signature, an input example and metrics linked to the data set."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from search.config import sqlite_file
from search.tracking.client import NUMBER_TAG, client_of, explain, runs_of
from search.tracking.mirror import dataset_input, final_metric, parameter_text
from search.tracking.view import SWEEP_TAG

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from torch import nn

    from analysis.records import TrialRecord

_DIGEST_TAG: Final = "robustfront.weights"
_READY: Final = "READY"
_ILLEGAL: Final = re.compile(r"[^\w\- ]")  # in a model's name


@dataclass(frozen=True, kw_only=True)
class ExportedNetwork:
    """What MLflow shows of an exported network.

    Args:
        sweep: The name of its sweep.
        identity: The sweep's ``ParentInfo.identity``.
        setting: The number of its setting.
        unit: The training that produced it, whose run in MLflow the model belongs to.
        seed: Its seed.
        values: Its accuracies.
        dataset: The manifest's ``data``.
        digest: A hash of its weights: the same network is logged once.
    """

    sweep: str
    identity: str
    setting: str
    unit: TrialRecord
    seed: int
    values: Mapping[str, float]
    dataset: Mapping[str, Any]
    digest: str


def log_network(
    uri: str, experiment: str, network: ExportedNetwork, model: nn.Module, images: torch.Tensor
) -> str | None:
    """Logs a network in evaluation mode; logging it again adds only new metrics, such as an audit's.

    Args:
        uri: The tracking URI.
        experiment: The sweep's experiment.
        network: What to show of it.
        model: The network, on the CPU.
        images: Two or more images (n, channels, height, width) as the input example.

    Returns:
        What MLflow lacks, and why, without secrets; None if it has everything.
    """
    try:
        database = sqlite_file(uri)
        if database is not None and not database.exists():
            raise FileNotFoundError(f"{database} does not exist")
        run_id, experiment_id = _run_of(client_of(uri), experiment, network)
        logged = _logged(client_of(uri), experiment_id, run_id, network, model, images)
        _log_metrics(client_of(uri), run_id, network, logged)
    except Exception as error:  # whatever MLflow or a database driver raises
        return f"MLflow lacks the exported network ({explain(uri, error)}); export it again to write it"
    return None


def _run_of(client: MlflowClient, experiment: str, network: ExportedNetwork) -> tuple[str, str]:
    """The ids of the unit's run and of its experiment."""
    known = client.get_experiment_by_name(experiment)
    for run in runs_of(client, str(known.experiment_id), network.identity) if known is not None else ():
        if run.data.tags.get(NUMBER_TAG) == network.unit.number:
            return str(run.info.run_id), str(run.info.experiment_id)
    raise LookupError(f"there is no run of trial {network.unit.number}; `robustfront resume` writes it")


def _logged(
    client: MlflowClient,
    experiment_id: str,
    run_id: str,
    network: ExportedNetwork,
    model: nn.Module,
    images: torch.Tensor,
) -> str:
    """The id of the network's model in MLflow, which is created unless it is there."""
    from mlflow.entities import LoggedModelOutput

    for known in client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
        if known.tags.get(_DIGEST_TAG) == network.digest:
            if known.status == _READY:
                return str(known.model_id)
            client.delete_logged_model(known.model_id)  # an earlier export was killed
    unit = network.unit
    own = {"setting": network.setting, "seed": network.seed, "loss": unit.loss, "defence": unit.defence}
    logged = client.create_logged_model(
        experiment_id,
        name=_ILLEGAL.sub("-", f"{network.sweep} {network.setting} seed {network.seed}"),
        source_run_id=run_id,
        tags={_DIGEST_TAG: network.digest, SWEEP_TAG: network.sweep},
        params={name: parameter_text(value) for name, value in {**own, **unit.parameters}.items()},
        model_type="image classifier",
    )
    with tempfile.TemporaryDirectory(prefix="robustfront-") as folder:
        client.log_model_artifacts(logged.model_id, str(_saved(Path(folder) / "model", logged, model, images)))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, unit.epochs)])
    client.finalize_logged_model(logged.model_id, _READY)
    return str(logged.model_id)


def _saved(folder: Path, logged: LoggedModel, model: nn.Module, images: torch.Tensor) -> Path:
    """The folder with the network in MLflow's format, as a ``torch.export`` program."""
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    with torch.no_grad():
        classes = model(images).shape[1]
    single = np.dtype(np.float32)
    mlflow.pytorch.save_model(
        model,
        folder,
        mlflow_model=Model(model_id=logged.model_id, run_id=logged.source_run_id),
        signature=ModelSignature(
            inputs=Schema([TensorSpec(single, (-1, *images.shape[1:]))]),
            outputs=Schema([TensorSpec(single, (-1, classes))]),
        ),
        input_example=images.numpy(),
        serialization_format="pt2",
        # MLflow would find these out by loading the model in another process.
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "torch", "numpy")],
    )
    return folder


def _log_metrics(client: MlflowClient, run_id: str, network: ExportedNetwork, model_id: str) -> None:
    """Links the run's own metrics to the model and the data set."""
    dataset = dataset_input(network.dataset).dataset
    unit, index = network.unit, network.unit.seeds.index(network.seed)
    client.log_batch(
        run_id,
        metrics=[
            final_metric(
                unit,
                name if len(unit.seeds) == 1 else f"{name}[{index}]",
                value,
                model_id=model_id,
                dataset_name=dataset.name,
                dataset_digest=dataset.digest,
                run_id=run_id,
            )
            for name, value in network.values.items()
        ],
    )
