"""Settings and fixtures for every test."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator

import pytest

# One thread per process, set before torch is imported: the suite runs one process per core, and two processes that
# compete for both cores are many times slower.
os.environ["OMP_NUM_THREADS"] = "1"


# All tests of a file run in the same process. This file runs whole sweeps and takes minutes: if it started late, the
# other process would wait for it at the end.
LONGEST = "tests/search/sweep/test_interruption.py"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the longest file; the others stay in the random order of pytest-randomly."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _no_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of tests are recorded in their own folders, whatever the user's environment says."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Waits for imports that a rejected command left in the background: pytest trips over modules that come late."""
    try:
        return (yield)
    finally:
        for thread in threading.enumerate():
            if thread.name in ("mlflow-import", "drawing-import"):
                thread.join()
