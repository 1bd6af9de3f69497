"""MLflow's client, imported late and opened quietly: tracking URIs, and the tags that mark a sweep's runs.

Importing MLflow takes seconds and hundreds of megabytes, so only functions do it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from search.config import redact, sqlite_file, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NUMBER_TAG: Final = "robustfront.number"
IDENTITY_TAG: Final = "robustfront.identity"

_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ([^'\")\]]+)")
_CREDENTIALS: Final = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_LONGEST_REASON: Final = 200  # characters
_PAGE: Final = 1000  # runs per request

_ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow would log every failed write with all its values; the tracking report says what is missing.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # The background writer retries itself, after it has checked whether a request succeeded although its answer was
    # lost: a request that is blindly repeated would create a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}


def preload_mlflow() -> None:
    """Starts to import MLflow in the background, for a sweep that waits for something else (Ray's start)."""
    threading.Thread(target=_import_mlflow, name="mlflow-import", daemon=True).start()


def _import_mlflow() -> None:
    """Imports MLflow's client without its telemetry, log lines and retries."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    import mlflow.tracking  # noqa: F401 (needed by the client)


def client_of(uri: str) -> MlflowClient:
    """A client for a store that exists."""
    _import_mlflow()
    from mlflow import MlflowClient

    # MLflow would look for the registry in a default place otherwise.
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def open_client(uri: str) -> MlflowClient:
    """A client for a store; a missing SQLite file is created."""
    database = sqlite_file(uri)
    if database is not None and not database.exists():
        _create_database(database)
    return client_of(uri)


def _create_database(database: Path) -> None:
    """Creates MLflow's tables in a file next to the database's place, and moves it there atomically.

    MLflow creates them over seconds, in steps that SQLite cannot undo. Two sweeps that do so at once, or one that is
    killed meanwhile, would leave a file that never opens again.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{database.name}.", dir=database.parent) as folder:
        made = Path(folder) / database.name
        client_of(f"sqlite:///{made}").search_experiments(max_results=1)
        try:
            os.link(made, database)
        except FileExistsError:
            return  # another sweep was faster
        except OSError:  # a file system without links
            made.replace(database)


def runs_of(client: MlflowClient, experiment_id: str, identity: str) -> Iterator[Run]:
    """All runs of the sweep with this ``ParentInfo.identity``, oldest first."""
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            f"tags.`{IDENTITY_TAG}` = '{identity}'",
            max_results=_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def is_server(uri: str) -> bool:
    """Whether the URI is that of a tracking server."""
    return urlsplit(uri).scheme in ("http", "https")


def shown(uri: str) -> str:
    """The URI without secrets; that of a server without its user too, as a browser needs it."""
    bare = without_password(uri)
    if not is_server(bare):
        return bare
    parts = urlsplit(bare)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def explain(uri: str, error: Exception) -> str:
    """What MLflow or a database driver raised, in one line for the user.

    MLflow's own messages nest several exceptions and may contain a password.
    """
    text = redact(" ".join(str(error).split()).replace(uri, shown(uri)), uri)
    errno = _ERRNO.search(text)
    if errno or "timed out" in text or "Max retries exceeded" in text:
        reason = errno[1].strip().lower() if errno else "timed out" if "timed out" in text else "no answer"
        return f"cannot reach {shown(uri)}: {reason}"
    if "error code 401" in text:
        return f"{shown(uri)} rejects the user and password in {_CREDENTIALS}"
    if "Invalid Host header" in text:
        return f"{shown(uri)} rejects this host name: add it to the server's --allowed-hosts"
    return f"{shown(uri)}: {text[:_LONGEST_REASON] or type(error).__name__}"
