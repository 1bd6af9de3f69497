"""Tracking URIs: what they point at, the credentials for them, and how they and their errors are shown."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from search.config import redact, without_password

_ERRNO: Final = re.compile(r"\[Errno -?\d+\] ([^'\")\]]+)")
_CREDENTIALS: Final = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_LONGEST_REASON: Final = 200  # characters


def is_server(uri: str) -> bool:
    """Whether the URI is that of a tracking server."""
    return urlsplit(uri).scheme in ("http", "https")


def sqlite_file(uri: str) -> Path | None:
    """The database's file if the URI is that of an SQLite database in a file."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy import make_url

    database = make_url(uri).database
    return Path(database) if database and database != ":memory:" else None


def credentials(uri: str) -> tuple[str, str] | None:
    """User and password for a server, from its URI or from where MLflow's own client takes them; None without both."""
    parts = urlsplit(uri)
    if parts.username and parts.password:
        return unquote(parts.username), unquote(parts.password)
    file = configparser.ConfigParser()
    file.read(Path.home() / ".mlflow" / "credentials")
    user, password = (
        os.environ.get(name.upper()) or file.get("mlflow", name, fallback=None)
        for name in ("mlflow_tracking_username", "mlflow_tracking_password")
    )
    return (user, password) if user and password else None


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
