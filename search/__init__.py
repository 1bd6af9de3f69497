"""Searches for the Pareto-optimal settings of a loss or defence, over Ray, Optuna and MLflow.

The public API of a sweep from Python: `load_config` reads and checks a configuration, `start` runs it, `resume`
continues a `Run`, and a `Run` finds its files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from search.config import load as load_config
    from search.runs.folder import Run
    from search.sweep.driver import resume, start

__all__ = ["Run", "load_config", "resume", "start"]

# Looked up when they are used: Ray takes seconds to import, and workers need none of these.
_PLACES: Final = {
    "load_config": ("search.config", "load"),
    "Run": ("search.runs.folder", "Run"),
    "resume": ("search.sweep.driver", "resume"),
    "start": ("search.sweep.driver", "start"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)
