"""What a trial's numbers depend on beside its own parameters: runs that agree in it can share their trials."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from search.config.schema import SweepConfig


def problem_settings(config: SweepConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their paths in the configuration, and the data set's contents.

    Where the files lie, how the search goes and what it seeks are left out: they change no trial's numbers. The split
    is told by its sizes, for a size that is left out depends on the data set.

    Args:
        config: The sweep.
        data: What the manifest says of the data set.
    """
    settings: dict[str, Any] = {
        "data.name": config.data.name,
        "data.sha256": data["sha256"],
        **{f"data.{name}_size": size for name, size in sorted(data["sizes"].items())},
        "data.seed": config.data.seed,
        "data.augment": config.data.augment,
        "model": config.model,
        "loss.name": config.loss.name,
    }
    document = config.to_document()
    for section in ("train", "robustness"):
        settings |= {f"{section}.{name}": value for name, value in document[section].items()}
    loaded: dict[str, Any] = json.loads(_canonical(settings))  # tuples and lists are the same
    return loaded


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
    return json.dumps(settings, sort_keys=True, separators=(",", ":"), default=dict)
