"""The launcher files of configs/cluster: Ray's schema, our own checks, and what they must have."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from search.cluster import launcher
from search.cluster.token import auth_environment, make_token
from search.errors import UserError
from tests.cluster.lab import REPOSITORY

TEMPLATES = REPOSITORY / "configs" / "cluster"
NAMES = ("onprem", "aws", "gcp")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate home folder, where the token is made."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of Ray's launcher, which are recorded and not run."""
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(launcher, "_ray", lambda *arguments, **_: made.append(arguments) or "")
    return made


def filled_in(name: str, folder: Path) -> Path:
    text = (TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(text.replace("FILL_IN_", "mine-"), encoding="utf-8")
    return path


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_template_fits_the_schema_once_it_is_filled_in(
    name: str, tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    path = filled_in(name, tmp_path)
    launcher.up(path)
    assert calls == [("up", "--yes", str(path))]


@pytest.mark.parametrize("name", NAMES)
def test_an_unfilled_template_names_what_is_missing(name: str, calls: list[tuple[str, ...]]) -> None:
    with pytest.raises(UserError, match=r"must be filled in, got FILL_IN_\w+, .* replace them with your own"):
        launcher.up(TEMPLATES / f"{name}.yaml")
    assert not calls


@pytest.mark.parametrize("name", NAMES)
def test_every_template_keeps_the_jobs_api_on_loopback_and_starts_ray_with_the_token(name: str) -> None:
    values = load(TEMPLATES / f"{name}.yaml")
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in values[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in starts)
    assert all("--dashboard-host=127.0.0.1" in command for command in starts if "--head" in command)
    assert any("uv sync --no-dev --extra cluster" in command for command in values["setup_commands"])


def test_the_rayjob_ends_with_its_sweep_and_requires_the_token_everywhere() -> None:
    spec = load(TEMPLATES / "kuberay-rayjob.yaml")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    for pod in [*pods, spec["submitterPodTemplate"]]:
        [container] = pod["spec"]["containers"]
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]
        assert "runs" in {volume["name"] for volume in pod["spec"]["volumes"]}


def test_the_services_listen_on_loopback_unless_told_otherwise() -> None:
    services = load(TEMPLATES / "compose.yaml")["services"]
    for service in services.values():
        assert all(port.startswith("${SERVICES_ADDRESS:-127.0.0.1}:") for port in service["ports"])
    assert "--allowed-hosts" in services["mlflow"]["command"]
    assert "basic-auth" in services["mlflow"]["command"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RAY_AUTH_MODE=token ", "", "head_start_ray_commands must start Ray with RAY_AUTH_MODE=token"),
        ('"~/.ray/auth_token": "~/.ray/auth_token"', "", "file_mounts must copy the token to the nodes"),
        ("cluster_name: robustfront", "cluster_nam: robustfront", "must be valid for Ray's launcher"),
        ("cluster_name: robustfront", "cluster_name: [", "must be YAML for Ray's launcher"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_starts(
    old: str, new: str, message: str, tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    path = filled_in("onprem", tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        launcher.up(path)
    assert not calls


def test_the_token_is_made_once_and_readable_only_by_its_owner(home: Path) -> None:
    assert auth_environment() == {}
    path = make_token()
    assert path == home / ".ray" / "auth_token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text()
    assert len(token) == 64
    path.chmod(0o644)
    assert make_token().read_text() == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert auth_environment() == {"RAY_AUTH_MODE": "token"}


@pytest.mark.parametrize("cluster", ["nowhere", "http://a:b:c", "ftp://host:1", "host:port"])
def test_a_wrong_cluster_is_reported_in_one_line(cluster: str) -> None:
    if cluster == "nowhere":
        with launcher.jobs_url(cluster) as url:
            assert url == "http://nowhere:8265"
        return
    with (
        pytest.raises(UserError, match=r"--cluster must be a launcher file \(.yaml\) or HOST:PORT"),
        launcher.jobs_url(cluster),
    ):
        pass
