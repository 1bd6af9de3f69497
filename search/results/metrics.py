"""What the training core yields, as plain values for the ledger, MLflow and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.records import WORST_CASE, is_under_attack
from search.config.objectives import Direction

if TYPE_CHECKING:  # torch stays out of the driver
    from trainables.training.loop import EpochResult
    from trainables.trial import CandidateResult


AUDIT: Final = "audit"  # of a result: what an audit of the trial said, as ``Ledger.audited`` takes it


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
    """What an epoch's metrics say of what can be an objective, for a comparison at a rung.

    Returns:
        Every accuracy under attack by the one estimate that a rung has (``robust_accuracy`` stands for them all). None
        where the epoch is no rung.
    """
    if "robust_estimate" not in metrics:
        return None
    return {
        "clean_accuracy": metrics["validation_accuracy"],
        "robust_accuracy": metrics["robust_estimate"],
        "validation_loss": metrics["validation_loss"],
        "train_seconds": metrics["seconds"],
    }


def rung_objectives(objectives: Mapping[str, Direction]) -> dict[str, Direction]:
    """Which of ``rung_values`` are compared at the rungs of a search for ``objectives``, each with its direction."""
    compared: dict[str, Direction] = {}
    for name, direction in objectives.items():
        if is_under_attack(name):
            compared["robust_accuracy"] = direction
        elif name != "attack_seconds":  # no rung knows it
            compared[name] = direction
    return compared


def result_values(result: CandidateResult) -> dict[str, Any]:
    """A finished setting as plain values: what can be an objective (means, and by replicate), seeds, image counts.

    ``accuracies`` are those under each attack and at further radii; ``objectives`` everything else that can be sought.
    """
    outcomes = result.outcomes
    attacks = outcomes.attack_accuracy() | outcomes.further_accuracy()
    losses = np.array([replicate["validation_loss"] for replicate in result.replicates])
    measured = {
        "clean_accuracy": outcomes.clean_accuracy(),
        "robust_accuracy": outcomes.robust_accuracy(),
        "validation_loss": losses,
        **attacks,
    }
    return {
        "objectives": {
            **result.objectives,
            "validation_loss": float(losses.mean()),
            "train_seconds": result.train_seconds,
            "attack_seconds": result.attack_seconds,
        },
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


def told(result: Mapping[str, Any]) -> dict[str, float]:
    """As ``measured``, and of a trial with ``robustness.gate: audit`` what holds of its robust accuracy."""
    values = measured(result)
    if AUDIT in result:
        values[WORST_CASE] = float(np.mean(result[AUDIT]["verified"]))
    return values


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """Every number of ``result_values`` that an objective or a constraint can name, by the sweep's own attacks."""
    return {**result.get("accuracies", {}), **result["objectives"]}
