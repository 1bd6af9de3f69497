"""What the training core yields, as plain values for the ledger, MLflow and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch stays out of the driver
    from trainables.setting import SettingResult
    from trainables.train import EpochResult


def epoch_metrics(result: EpochResult) -> dict[str, float]:
    """One epoch as flat numbers: means over the replicates, and ``NAME[r]`` for each where there are several."""
    metrics: dict[str, float] = {"epoch": result.epoch, "seconds": result.seconds}
    for name in ("train_loss", "validation_loss", "validation_accuracy", "robust_estimate"):
        values = getattr(result, name)
        if not values:
            continue
        metrics[name] = sum(values) / len(values)
        if len(values) > 1:
            metrics |= {f"{name}[{replicate}]": value for replicate, value in enumerate(values)}
    return metrics


def rung_values(metrics: Mapping[str, float]) -> dict[str, float] | None:
    """What an epoch's metrics say of the objectives, for a comparison at a rung; None where the epoch is no rung."""
    if "robust_estimate" not in metrics:
        return None
    return {"clean_accuracy": metrics["validation_accuracy"], "robust_accuracy": metrics["robust_estimate"]}


def result_values(result: SettingResult) -> dict[str, Any]:
    """A finished setting as plain values: objectives and accuracies (means, and by replicate), seeds, image counts."""
    outcomes = result.outcomes
    attacks = outcomes.attack_accuracy()
    measured = {
        "clean_accuracy": outcomes.clean_accuracy(),
        "robust_accuracy": outcomes.robust_accuracy(),
        **attacks,
    }
    return {
        "objectives": dict(result.objectives),
        "accuracies": {name: float(values.mean()) for name, values in attacks.items()},
        "replicates": [
            {name: float(values[replicate]) for name, values in measured.items()}
            for replicate in range(len(outcomes.seeds))
        ],
        "seeds": list(outcomes.seeds),
        "images": {"clean_accuracy": outcomes.clean.shape[-1], "robust_accuracy": outcomes.kept.shape[-1]},
        "train_seconds": result.train_seconds,
        "attack_seconds": result.attack_seconds,
    }
