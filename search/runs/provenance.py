"""What a run's numbers depend on: the problem's settings, code, the user's own modules, versions, data and hardware."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
import re
import site
import subprocess
import sys
import sysconfig
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from search.config import ImportConfig, SweepConfig, available_cpus
from search.config.space import canonical

_OWN_PACKAGES: Final = ("search", "trainables", "analysis")
_NUMERIC: Final = ("ray", "torch", "torchvision", "optuna", "torchattacks", "mlflow", "numpy")
# Keys of ``data`` that the manifest describes better: a size that is left out depends on the data set.
_SPLIT: Final = ("root", "train_size", "validation_size", "test_size")
_IMPORT_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def make_manifest(config: SweepConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a new run's ``manifest.json``; ``data`` is as from ``prepare_dataset``."""
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


def make_import_manifest(config: ImportConfig, source: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of an imported run's ``manifest.json``; ``source`` is what is known of the study."""
    return {
        "name": config.name,
        "id": uuid.uuid4().hex,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "code": _git_revision(),
        "versions": {"robustfront": version("robustfront"), **versions()},
        "source": {**config.source.model_dump(), **source},
    }


def problem_settings(config: SweepConfig, data: Mapping[str, Any]) -> dict[str, Any]:
    """The problem's settings by their paths, apart from what is searched; ``data`` is the manifest's.

    Runs that agree in them can share their trials.
    """
    settings = {
        "data.sha256": data["sha256"],
        **{f"data.{name}_size": size for name, size in sorted(data["sizes"].items())},
    }
    document = config.to_document()
    document["data"] = {name: value for name, value in document["data"].items() if name not in _SPLIT}
    for section in ("data", "model", "loss", "defence", "train", "robustness"):
        settings |= flat(section, document[section])
    searched = config.domains
    return {path: value for path, value in settings.items() if canonical(path) not in searched}


def flat(path: str, value: Any) -> dict[str, Any]:
    """A nested mapping as one level: dotted paths to values. Lists are values."""
    if not isinstance(value, Mapping):
        return {path: value}
    return {key: inner for name, item in value.items() for key, inner in flat(f"{path}.{name}", item).items()}


def fingerprint(settings: Mapping[str, Any]) -> str:
    """SHA-256 of ``problem_settings`` as canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first setting in which two problems differ; None if they are the same."""
    return next((name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)), None)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    installed = {"python": platform.python_version()}
    for name in _NUMERIC:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "missing"
    return installed


def source_digest(paths: Sequence[str] = ()) -> str:
    """SHA-256 of the Python source that numbers come from, the user's own at these import paths included."""
    digest = hashlib.sha256()
    for name, root in source_modules(paths).items():
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            digest.update(f"{name}/{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def source_modules(paths: Sequence[str]) -> dict[str, Path]:
    """robustfront's packages and the ``user_modules``."""
    own = {name: Path(importlib.import_module(name).__path__[0]) for name in _OWN_PACKAGES}
    return own | user_modules(paths)


def import_paths(document: Any) -> list[str]:
    """The import paths (``package.module:factory``) that a configuration's document has as ``name``, sorted."""
    if isinstance(document, list | tuple):
        return sorted({path for item in document for path in import_paths(item)})
    if not isinstance(document, Mapping):
        return []
    name, paths = document.get("name"), import_paths(list(document.values()))
    own = [name] if isinstance(name, str) and _IMPORT_PATH.fullmatch(name) else []
    return sorted({*own, *paths})


def user_modules(paths: Sequence[str]) -> dict[str, Path]:
    """The user's own among the top-level modules of import paths, sorted by name: a package's folder or a ``.py`` file.

    Code in site-packages is installed on every node, or it is missing there as any other package would be. What lies
    elsewhere exists on the driver's machine alone and has to be shipped. The standard library and robustfront are left
    out. So is what cannot be found: whoever imports it says so.
    """
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    folders = {Path(folder).resolve() for folder in (*installed, *site.getsitepackages())}
    modules = {}
    for name in sorted({path.partition(":")[0].partition(".")[0] for path in paths}):
        location = None if name in sys.stdlib_module_names or name in _OWN_PACKAGES else _location(name)
        if location is not None and not any(location.is_relative_to(folder) for folder in folders):
            modules[name] = location
    return modules


def _location(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin is not None and spec.origin.endswith(".py") else None


def _git_revision() -> str | None:
    """The commit of the source tree, marked if it has changes; None outside a git checkout."""
    describe = ["git", "-C", str(Path(__file__).parent)]
    describe += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
