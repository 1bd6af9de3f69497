"""Small configurations and results for the tests of the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.config import SweepConfig, parse
from search.results.metrics import Score, UnitResult
from trainables.metrics import is_accuracy


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


def result(clean: float, robust: float, *, seed: int = 0, audit: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a finished unit tells the ledger.

    Args:
        clean: Clean accuracy.
        robust: Robust accuracy, and that under the one attack.
        seed: Index of the unit's seed.
        audit: What an audit in its worker said.
    """
    values = {"clean_accuracy": clean, "robust_accuracy": robust, "pgd2-ce/worst": robust}
    return unit_result(values, seed=seed, audit=audit)


def unit_result(values: Mapping[str, float], *, seed: int = 0, audit: dict[str, Any] | None = None) -> dict[str, Any]:
    """A unit's result as the ledger takes it, with these numbers beside its times."""
    images = {"clean_accuracy": (0, 60)}
    costs = {"validation_loss": 0.1, "train_seconds": 1.0, "attack_seconds": 2.0}
    scores = {
        name: Score(value, images=images.get(name, (0, 20)) if is_accuracy(name) else None)
        for name, value in {**costs, **values}.items()
    }
    return UnitResult(seed, 123 + seed, "search", scores, audit).to_json()
