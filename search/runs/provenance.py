"""What a run's numbers depend on: code, versions, data, seeds and hardware."""

from __future__ import annotations

import hashlib
import importlib
import platform
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from search.config import SweepConfig, available_cpus
from search.config.fingerprint import fingerprint, problem_settings
from search.runs.user_code import import_paths, user_modules

OWN_PACKAGES: Final = ("search", "trainables", "analysis")
_NUMERIC: Final = ("ray", "torch", "torchvision", "optuna", "torchattacks", "mlflow", "numpy")


def make_manifest(config: SweepConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a new run's ``manifest.json``.

    Args:
        config: The run's configuration.
        data: As from ``prepare_dataset``.
    """
    return {
        "name": config.name,
        "id": uuid.uuid4().hex,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "config_sha256": hashlib.sha256(config.to_yaml().encode()).hexdigest(),
        "code": _git_revision(),
        "versions": {"robustfront": version("robustfront"), **versions()},
        "source_sha256": source_digest(import_paths(config.to_document())),
        "data": dict(data),
        "fingerprint": fingerprint(problem_settings(config, data)),
        "seeds": {"data": config.data.seed, "train": config.train.seed, "search": config.search.seed},
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cpus": available_cpus()},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _NUMERIC:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def source_digest(paths: Sequence[str] = ()) -> str:
    """SHA-256 of the Python source that numbers come from, wherever it is installed.

    Args:
        paths: Import paths of the user's own components. The modules or packages that they are in count too.
    """
    roots = [(name, Path(importlib.import_module(name).__path__[0])) for name in OWN_PACKAGES]
    roots += [(module.name, module.path) for module in user_modules(paths)]
    digest = hashlib.sha256()
    for name, root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _git_revision() -> str | None:
    """The commit of the source tree, marked if it has changes; None outside a git checkout."""
    here = Path(__file__).parent
    try:
        describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
