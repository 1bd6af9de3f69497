"""The token by which a cluster's nodes and clients authenticate, in the file where Ray looks for it.

Anyone who has it can run anything on the cluster. It is never printed, and never an argument of a command.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

_MODE: Final = 0o600


def token_file() -> Path:
    """Where Ray reads the token: RAY_AUTH_TOKEN_PATH, or ``~/.ray/auth_token``."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def make_token() -> Path:
    """Makes the token's file unless there is one. Only its owner can read it."""
    path = token_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(_MODE, exist_ok=False)
        path.write_text(secrets.token_hex(32), encoding="ascii")
    except FileExistsError:
        path.chmod(_MODE)
    return path


def auth_environment() -> dict[str, str]:
    """Variables that make this process send the token; empty if the user has set them, or there is no token."""
    if "RAY_AUTH_MODE" in os.environ or not ("RAY_AUTH_TOKEN" in os.environ or token_file().is_file()):
        return {}
    return {"RAY_AUTH_MODE": "token"}
