"""MLflow's client: a light import, a database that appears whole, and what is shown of URIs and errors."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from search.config import sqlite_file
from search.tracking.client import explain, is_server, open_client, shown

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_import_is_light() -> None:
    modules = "search.tracking.reading, search.tracking.queue, search.tracking.ui"
    code = f"import sys, {modules}\nprint([n for n in ('mlflow', 'pandas', 'torch') if n in sys.modules])"
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


def test_a_server_that_refuses_is_explained() -> None:
    uri = "http://me:secret@mlflow:5000"
    failed = "API request to endpoint /api/2.0/x failed with error code"
    refused = explain(uri, ValueError(f"{failed} 401 != 200. Response body: 'You are not authenticated'"))
    assert refused.startswith("http://mlflow:5000 rejects the user and password in MLFLOW_TRACKING_USERNAME and")
    elsewhere = explain(uri, ValueError(f"{failed} 403 != 200. Response body: 'Invalid Host header - x'"))
    assert elsewhere.endswith("add it to the server's --allowed-hosts")


def test_what_a_uri_points_at() -> None:
    assert is_server("https://mlflow/folder")
    assert not is_server("sqlite:///mlflow.db")
    assert sqlite_file("sqlite:////tmp/mlflow.db") == Path("/tmp/mlflow.db")
    assert sqlite_file("sqlite:///:memory:") is None
    assert sqlite_file("postgresql://host/db") is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://me:secret@mlflow:5000/folder", "http://mlflow:5000/folder"),
        ("http://me@mlflow:5000", "http://mlflow:5000"),
        ("http://mlflow:5000?token=secret", "http://mlflow:5000"),
        ("postgresql://me:secret@host/db", "postgresql://me@host/db"),
        ("postgresql://me@host/db?password=secret", "postgresql://me@host/db"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
    ],
)
def test_a_uri_is_shown_without_secrets(uri: str, expected: str) -> None:
    assert shown(uri) == expected
    explained = explain(uri, ValueError(f"cannot open {uri}: the password is wrong"))
    assert explained == f"{expected}: cannot open {expected}: the password is wrong"


def test_a_drivers_message_shows_no_password() -> None:
    explained = explain("postgresql://me@host/db?password=secret", ValueError("password secret is wrong"))
    assert explained == "postgresql://me@host/db: password *** is wrong"
