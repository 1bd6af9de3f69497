"""Finds the modules of a user's own components, which a configuration names by import path.

Code in site-packages is installed on every node, or it is missing there as any other package would be. What lies
elsewhere exists on the driver's machine alone and has to be shipped.
"""

from __future__ import annotations

import importlib.util
import re
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_IMPORT_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OURS: Final = ("search", "trainables", "analysis")


@dataclass(frozen=True)
class UserModule:
    """A top-level module of the user's.

    Args:
        name: Its name.
        path: A package's folder, or a module's ``.py`` file.
    """

    name: str
    path: Path


def import_paths(document: Any) -> list[str]:
    """The import paths (``package.module:factory``) that a configuration has as ``name``, sorted.

    Args:
        document: As from ``SweepConfig.to_document``.
    """
    return sorted(set(_import_paths(document)))


def _import_paths(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        name = value.get("name")
        if isinstance(name, str) and _IMPORT_PATH.fullmatch(name):
            yield name
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for child in children:
        yield from _import_paths(child)


def user_modules(paths: Sequence[str]) -> list[UserModule]:
    """The top-level modules or packages of import paths, as far as they are the user's, sorted by name.

    Modules of the standard library, of installed packages and of robustfront are left out. So is what cannot be found:
    whoever imports it says so.
    """
    modules = []
    for name in sorted({path.partition(":")[0].partition(".")[0] for path in paths}):
        location = None if name in sys.stdlib_module_names or name in _OURS else _location(name)
        if location is not None and not any(location.is_relative_to(folder) for folder in _installed()):
            modules.append(UserModule(name, location))
    return modules


def _location(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin is not None and spec.origin.endswith(".py") else None


def _installed() -> set[Path]:
    """Folders of installed packages."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()}
    return {Path(folder).resolve() for folder in (*folders, *site.getsitepackages())}
