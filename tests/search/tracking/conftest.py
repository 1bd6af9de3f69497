"""A real SQLite store of MLflow for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.tracking.client import open_client


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without a run: MLflow takes seconds to make one."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    open_client(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
