"""Passwords in URLs are neither written down nor shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from search.config import load, parse, redact, without_password, without_passwords
from search.errors import UserError
from tests.search.examples import small_config

SECRET = "s3cret"
QUICKSTART = Path(__file__).parents[2] / "quickstart.yaml"


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("postgresql://me:s3cret@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql+psycopg://me:s3cret@[::1]/db", "postgresql+psycopg://me@[::1]/db"),
        ("postgresql://me@host/db?password=s3cret", "postgresql://me@host/db"),
        ("postgresql://host/db?user=me&PASSWORD=s3cret&a=1", "postgresql://host/db?a=1&user=me"),
        ("postgresql://me@host/db?sslpassword=s3cret&sslkey=k", "postgresql://me@host/db?sslkey=k"),
        ("postgresql://me:s3cret@host/db?password=s3cret", "postgresql://me@host/db"),
        ("postgresql://me:a%40s3cret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:a@s3cret@host/db", "postgresql://me@host/db"),  # an @ that is not quoted
        ("postgresql://me:a/s3cret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:a@s3cret/b@host/db", "postgresql://me@host/db"),
        ("postgresql://me:a@s3cret?b@host/db", "postgresql://me@host/db"),
        ("postgresql://me:s3cret@host:port/db", "postgresql://me@host:port/db"),  # no port number
        ("postgresql://me:s3cret", "postgresql://me"),  # no host
        ("my-db://me:s3cret@host/db?password=s3cret&x=1&y=2", "my-db://me@host/db?x=1&y=2"),  # no driver's name
        ("mysql://me@host/db?passwd=s3cret", "mysql://me@host/db"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Dme%3BPWD%3Ds3cret", "mssql+pyodbc:///"),
        ("http://me:s3cret@mlflow:5000", "http://me@mlflow:5000"),
        ("https://me:s3cret@mlflow/folder/?token=s3cret", "https://me@mlflow/folder/"),
    ],
)
def test_a_secret_is_removed(url: str, bare: str) -> None:
    assert without_password(url) == bare
    assert SECRET not in redact(f"cannot connect to {url}", url)
    for section in ({"storage": {"url": url}}, {"tracking": {"uri": url}}):
        text = small_config(**section).to_yaml()
        assert bare in text
        assert SECRET not in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@host/db",
        "postgresql:///db?host=/var/run/postgresql&options=a@b",
        "postgresql://me@host/db?passfile=/home/me/.pgpass",
        "sqlite:////tmp/a:b@c.db",
        "sqlite:////tmp/a@b:c@d.db?timeout=5",
        "sqlite:///mlflow.db",
        "http://127.0.0.1:5000",
        "databricks",
        "databricks://scope:prefix",
        "./mlruns",
        "file:///tmp/a b/mlruns",
        "",
    ],
)
def test_a_url_without_a_secret_stays_as_it_is(url: str) -> None:
    assert without_password(url) == url
    assert redact(f"{url} does not answer", url) == f"{url} does not answer"


@pytest.mark.parametrize(
    "section",
    [
        {"storage": "postgresql://me:s3cret@host/db"},
        {"storage": {"urls": "postgresql://me:s3cret@host/db"}},
        {"storage": {"url": ["postgresql://me@host/db?password=s3cret"]}},
        {"tracking": {"uri": {"a": "http://me:s3cret word@host"}}},
    ],
)
def test_a_wrong_setting_is_shown_without_its_password(section: dict[str, object]) -> None:
    with pytest.raises(UserError) as error:
        parse({"name": "small", **section})
    assert "://me@host" in str(error.value)
    assert SECRET not in str(error.value)


def test_an_option_is_shown_without_its_password() -> None:
    assert without_passwords("storage.url=postgresql://me:s3cret@host/db") == "storage.url=postgresql://me@host/db"
    assert without_passwords("search.trials=6") == "search.trials=6"
    with pytest.raises(UserError) as error:
        load(QUICKSTART, ["storage.url:postgresql://me:s3cret@host/db"])
    assert SECRET not in str(error.value)
    with pytest.raises(UserError) as error:
        load(QUICKSTART, ["name.url=postgresql://me:s3cret@host/db"])
    assert SECRET not in str(error.value)


@given(
    password=st.text(min_size=1, max_size=20),
    query=st.dictionaries(st.sampled_from(["password", "sslpassword", "sslmode"]), st.text(min_size=1, max_size=9)),
)
def test_only_secrets_are_removed(password: str, query: dict[str, str]) -> None:
    url = URL.create("postgresql", "me", password, "host", 5432, "db", query)
    bare = make_url(without_password(url.render_as_string(hide_password=False)))
    assert (bare.username, bare.password, bare.host, bare.port, bare.database) == ("me", None, "host", 5432, "db")
    assert dict(bare.query) == {name: value for name, value in query.items() if name == "sslmode"}


def test_a_drivers_message_shows_no_password() -> None:
    url = "postgresql://me:p%40ss@host/db?sslpassword=key+word"
    message = "user me, password p@ss (p%40ss), key word, key+word"
    assert redact(message, url) == "user me, password *** (***), ***, ***"
