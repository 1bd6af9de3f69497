"""What a trial's numbers depend on beside its own parameters: runs that agree in it can share their trials."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from search.config.schema import SweepConfig
from search.config.space import canonical

# Keys of ``data`` that the manifest tells better.
_SPLIT: Final = ("root", "train_size", "validation_size", "test_size")


def problem_settings(config: SweepConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their paths in the configuration, and the data set's contents.

    Where the files lie, how the search goes, what it seeks and what it varies are left out. The split is described by
    its sizes, for a size that is left out depends on the data set.

    Args:
        config: The sweep.
        data: The manifest's entry of the data set.
    """
    document = config.to_document()
    document["data"] = {name: value for name, value in document["data"].items() if name not in _SPLIT}
    settings = {
        "data.sha256": data["sha256"],
        **{f"data.{name}_size": size for name, size in sorted(data["sizes"].items())},
    }
    for section in ("data", "model", "loss", "defence", "train", "robustness"):
        settings |= _flat(section, document[section])
    searched = config.domains
    return {path: value for path, value in settings.items() if canonical(path) not in searched}


def _flat(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {path: value}
    return {key: inner for name, item in value.items() for key, inner in _flat(f"{path}.{name}", item).items()}


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings' canonical JSON, in hexadecimal.

    Args:
        settings: As from ``problem_settings``.
    """
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first setting in which two problems differ; None if they are one."""
    return next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), None)


def _canonical(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))
