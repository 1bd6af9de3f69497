"""MLflow's client: a light import, and a database that appears whole."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.tracking.client import open_client

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_import_is_light() -> None:
    code = "import sys, search.tracking\nprint([n for n in ('mlflow', 'pandas', 'torch') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_database_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-made, it would never open again."""
    from mlflow import MlflowClient

    database = tmp_path / "runs/mlflow.db"

    def die(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        assert not database.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "search_experiments", die)
    with pytest.raises(KeyboardInterrupt):
        open_client(f"sqlite:///{database}")
    assert list(database.parent.iterdir()) == []


def test_two_sweeps_make_one_database(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    database = tmp_path / "mlflow.db"

    def be_slower(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        shutil.copy(empty_store, database)
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA user_version = 7")
        connection.close()

    monkeypatch.setattr(MlflowClient, "search_experiments", be_slower)
    open_client(f"sqlite:///{database}")
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    connection.close()
    assert list(tmp_path.iterdir()) == [database]
