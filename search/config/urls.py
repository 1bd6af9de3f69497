"""Database and tracking URLs without their passwords: what may be written to files and shown to people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote_plus

if TYPE_CHECKING:
    from sqlalchemy import URL

# Query parameters whose value is secret: password, sslpassword, passwd, ... A passfile or sslkey is only a path.
_SECRET_KEY: Final = re.compile(r"password|passwd|pwd|secret|token|odbc_connect", re.IGNORECASE)
_URL: Final = re.compile(r"[A-Za-z][\w+.-]*://[^'\"]*")  # in a value as text; quotes end it in lists and mappings


def without_password(url: str) -> str:
    """A URL without its password and other secrets; unchanged if it has none.

    Of a malformed URL, whatever may be a part of a password is left out too. Text that is no URL stays as it is.
    """
    if not _secrets(url):
        return url
    parsed = _parsed(url)
    if parsed is None:
        scheme, _, rest = url.partition("://")
        userinfo, at, tail = rest.rpartition("@")
        user = (userinfo if at else tail).partition(":")[0]
        head, _, query = (tail if at else "").partition("?")
        items = [item for item in query.split("&") if item and not _SECRET_KEY.search(item.partition("=")[0])]
        return f"{scheme}://{user}{at}{head}{'?' if items else ''}{'&'.join(items)}"

    from sqlalchemy import URL

    secret_keys = [key for key in parsed.query if _SECRET_KEY.search(key)]
    return (
        URL.create(parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database, parsed.query)
        .difference_update_query(secret_keys)
        .render_as_string(hide_password=False)
    )


def without_passwords(value: str) -> str:
    """A value as text, such as ``storage.url=postgresql://...``, with ``without_password`` applied to its URLs."""
    return _URL.sub(lambda url: without_password(url[0]), value)


def redact(text: str, url: str) -> str:
    """A text, such as a driver's error message, with the secrets of a URL replaced by ``***``."""
    # The longest first: one secret may be a part of another.
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def sqlite_file(uri: str) -> Path | None:
    """The database's file if the URI is that of an SQLite database in a file."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy import make_url

    database = make_url(uri).database
    return Path(database) if database and database != ":memory:" else None


def _secrets(url: str) -> set[str]:
    """Everything secret in a URL, as it is and as it is quoted."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.startswith("databricks"):  # databricks://SCOPE:PREFIX only looks like a password
        return set()
    parsed = _parsed(url)
    if parsed is None:
        userinfo, at, tail = rest.rpartition("@")
        secrets = {(userinfo if at else tail).partition(":")[2]}
    else:
        secrets = {str(parsed.password or "")}
    for item in rest.partition("?")[2].split("&"):
        key, _, value = item.partition("=")
        if _SECRET_KEY.search(key):
            secrets |= {value, unquote_plus(value)}
    return {form for secret in secrets for form in (secret, quote(secret), quote_plus(secret)) if secret}


def _parsed(url: str) -> URL | None:
    """The URL's parts; None if it is malformed, or if a ``@`` leaves open where its password ends."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    authority, _, query = url.partition("://")[2].partition("?")
    if not authority.startswith("/"):  # else a file, which may have any name
        names = [item.partition("=")[0] for item in query.split("&")]
        if authority.count("@") > 1 or any("@" in name for name in names):
            return None
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # ValueError: the port is no number
        return None
