"""What every test starts from."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator

import pytest

# One thread a process, said before torch is imported: the suite runs a process a core, and two that fight for both are
# many times slower.
os.environ["OMP_NUM_THREADS"] = "1"


# Files of whole sweeps, the longest first. Each goes to one process, so that one which began late would keep the other
# process waiting at the end.
LONGEST = (
    "tests/search/sweep/test_driver.py",
    "tests/search/runs/test_store.py",
    "tests/search/sweep/test_faults.py",
    "tests/plugins/test_sweep.py",
    "tests/search/sweep/test_front_audit.py",
    "tests/contracts/test_samplers.py",
    "tests/search/cluster/test_session.py",
    "tests/trainables/audit/test_audit.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest files; the others stay in the random order of pytest-randomly."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(autouse=True)
def _no_tracking_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of tests are recorded in their own folders, whatever the user's environment says."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """A command that is refused may leave imports in the background: pytest trips over modules that come later."""
    try:
        return (yield)
    finally:
        for thread in threading.enumerate():
            if thread.name in ("mlflow-import", "drawing-import"):
                thread.join()
