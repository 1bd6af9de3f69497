"""Small configurations and results for the tests of the search."""

from __future__ import annotations

from typing import Any

from search.config.schema import SweepConfig, parse


def small_config(**overrides: Any) -> SweepConfig:
    """A sweep of seconds: one epoch on 300 digits, 20 of them attacked for two steps.

    Args:
        overrides: Sections to replace or settings to merge into one, e.g. ``search={"trials": 2}``.
    """
    document: dict[str, Any] = {
        "name": "small",
        "data": {"train_size": 300, "validation_size": 60},
        "train": {"epochs": 1},
        "robustness": {
            "attacks": [{"name": "pgd", "steps": 2}, {"name": "pgd", "loss": "dlr", "steps": 2}],
            "images": 20,
        },
        "search": {"trials": 4},
    }
    for name, value in overrides.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            document[name] = {**document[name], **value}
        else:
            document[name] = value
    return parse(document)


def result(clean: float, robust: float) -> dict[str, Any]:
    """What a finished trial tells the ledger."""
    return {
        "objectives": {"clean_accuracy": clean, "robust_accuracy": robust},
        "accuracies": {"pgd2-ce/worst": robust},
        "replicates": [{"clean_accuracy": clean, "robust_accuracy": robust, "pgd2-ce/worst": robust}],
        "seeds": [123],
        "images": {"clean_accuracy": 60, "robust_accuracy": 20},
        "train_seconds": 1.0,
        "attack_seconds": 2.0,
    }
