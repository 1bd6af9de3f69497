from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.runs.provenance import import_paths, source_digest, user_modules
from tests.search.examples import small_config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder: a package, a module and a package without ``__init__``, where Python finds them."""
    for path in ("mine_a/__init__.py", "mine_a/sub/sets.py", "mine_b.py", "mine_c/losses.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({}, []),
        ({"name": "run", "data": {"name": "mnist"}, "storage": {"url": "sqlite:a"}}, []),
        ({"data": {"name": "a.b:c", "root": "x:y"}, "attacks": [{"name": "z:D"}, {"name": "a.b:c"}]}, ["a.b:c", "z:D"]),
        ({"deep": {"deeper": ({"name": "m:f"},)}, "name": 5}, ["m:f"]),
        ({"name": "http://host:80/x"}, []),
    ],
)
def test_import_paths_are_found_wherever_they_are(document: Any, paths: list[str]) -> None:
    assert import_paths(document) == paths


def test_a_configuration_keeps_its_import_paths() -> None:
    config = small_config(data={"name": "tests.search.runs.test_provenance:factory"})
    assert import_paths(config.to_document()) == ["tests.search.runs.test_provenance:factory"]
    assert import_paths(small_config().to_document()) == []


def factory() -> None:
    """Named above, never called."""


def test_top_level_modules_outside_installed_packages_are_the_users(folder: Path) -> None:
    paths = [
        "mine_b:f",
        "mine_a.sub.sets:f",
        "mine_a:g",
        "mine_c.losses:h",
        "torchvision.models:resnet18",
        "json:loads",
    ]
    paths += ["trainables.losses:loss_function", "no_such_module:f", "sys:exit"]
    assert user_modules(paths) == {
        "mine_a": folder / "mine_a",
        "mine_b": folder / "mine_b.py",
        "mine_c": folder / "mine_c",
    }


@pytest.mark.parametrize(("path", "file"), [("mine_a.sub.sets:f", "mine_a/sub/sets.py"), ("mine_b:f", "mine_b.py")])
def test_the_source_digest_follows_the_users_modules(folder: Path, path: str, file: str) -> None:
    plain, before = source_digest(), source_digest([path])
    assert len({plain, before}) == 2
    assert source_digest([path]) == before
    (folder / file).write_text("changed = True")
    assert source_digest([path]) != before
    assert source_digest() == plain == source_digest(["json:loads"])
