"""The public API: what a user imports from ``search``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import search
from search.config import load
from search.runs.folder import Run
from search.sweep.driver import resume, start


def test_the_public_names_are_the_functions_behind_the_command_line() -> None:
    assert (search.load_config, search.Run, search.resume, search.start) == (load, Run, resume, start)
    with pytest.raises(AttributeError, match="no attribute 'stop'"):
        search.stop  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import search, sys; print([name for name in ('ray', 'torch', 'optuna', 'mlflow') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
