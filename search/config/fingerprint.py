"""What a trial's numbers depend on beside its own parameters: runs that agree in it can share their trials."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from search.config.schema import SweepConfig
from search.config.space import canonical

# Keys of ``data`` that the manifest describes better: a size that is left out depends on the data set.
_SPLIT: Final = ("root", "train_size", "validation_size", "test_size")


def problem_settings(config: SweepConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the problem by their paths, apart from what is searched, and the manifest's ``data``."""
    settings = {
        "data.sha256": data["sha256"],
        **{f"data.{name}_size": size for name, size in sorted(data["sizes"].items())},
    }
    document = config.to_document()
    document["data"] = {name: value for name, value in document["data"].items() if name not in _SPLIT}
    for section in ("data", "model", "loss", "defence", "train", "robustness"):
        settings |= _flat(section, document[section])
    searched = config.domains
    return {path: value for path, value in settings.items() if canonical(path) not in searched}


def _flat(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    return {key: inner for name, item in value.items() for key, inner in _flat(f"{path}.{name}", item).items()}


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of ``problem_settings`` as canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first setting in which two problems differ; None if they are the same."""
    return next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), None)
