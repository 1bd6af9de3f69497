"""Clusters started by Ray's own launcher: one YAML file per cluster, with templates in ``configs/cluster``.

A file or address that is wrong is a ``UserError``, a failure of the launcher or of ssh ``SweepFailed``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search.cluster.token import auth_environment, make_token, token_file
from search.errors import SweepFailed, UserError, first_line

_JOBS_PORT: Final = 8265
_JOBS_ADDRESS: Final = re.compile(r"((?P<scheme>https?)://)?(?P<host>[^/\s:]+)(:(?P<port>\d+))?/?")
_FILL_IN: Final = re.compile(r"FILL_IN\w*")
_TUNNEL_SECONDS: Final = 60.0
# Filesystems that outlive the machine that mounts them, by their names in `stat -f`.
_LASTING: Final = ("nfs", "nfs4", "smb2", "cifs", "lustre", "ceph", "gpfs", "fuseblk", "fuse", "afs", "beegfs", "v9fs")


def read_launcher_file(path: Path) -> dict[str, Any]:
    """A launcher file, filled in and checked against the schema that Ray ships."""
    import jsonschema

    try:
        text = path.read_text(encoding="utf-8")
        values = YAML(typ="safe", pure=True).load(text)
    except (OSError, YAMLError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"the cluster's file must be YAML for Ray's launcher, got {path} ({reason}); "
            "copy one of configs/cluster and fill it in"
        ) from None
    # Found without importing Ray, which reads its settings for authentication when it is imported.
    schema = Path(str(distribution("ray").locate_file("ray/autoscaler/ray-schema.json")))
    try:
        jsonschema.validate(values, json.loads(schema.read_text(encoding="utf-8")))
    except jsonschema.ValidationError as error:
        where = ".".join(map(str, error.absolute_path)) or "the file"
        raise UserError(f"{where} must be valid for Ray's launcher, got {path} ({error.message}); correct it") from None
    body = "\n".join(line.partition("#")[0] for line in text.splitlines())
    open_fields = sorted(set(_FILL_IN.findall(body)))
    if open_fields:
        raise UserError(
            f"{path} must be filled in, got {', '.join(open_fields)} in it; replace them with your own values"
        )
    return dict(values)


def up(path: Path) -> None:
    """Makes the token if there is none, and starts or updates the cluster."""
    values = read_launcher_file(path)
    _check_token(path, values)
    make_token()
    # Ray 2.60's newer autoscaler keeps requesting the listed machines and never sets one up.
    on_premise = {"RAY_UP_enable_autoscaler_v2": "0"} if values["provider"]["type"] == "local" else {}
    _ray("up", "--yes", str(path), environment=on_premise)


def down(path: Path) -> None:
    values = read_launcher_file(path)
    if values["provider"]["type"] == "local":
        _stop_ray(path, values)
    _ray("down", "--yes", str(path))


def _stop_ray(path: Path, values: Mapping[str, Any]) -> None:
    """Stops Ray on machines that stay; the launcher itself only forgets them.

    The head comes first, or its autoscaler would start the others again. These are reached through it.
    """
    halt = {
        kind: next((line for line in values[f"{kind}_start_ray_commands"] if "ray stop" in line), "ray stop")
        for kind in ("head", "worker")
    }
    _ray("exec", str(path), halt["head"], quiet=True)
    hop = "ssh -n -i ~/ray_bootstrap_key.pem -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    for address in values["provider"].get("worker_ips", []):
        remote = shlex.quote(f"bash -lc {shlex.quote(halt['worker'])}")
        _ray("exec", str(path), f"{hop} {values['auth']['ssh_user']}@{address} {remote}", quiet=True)


def fetch(path: Path, folder: str, target: Path) -> bool:
    """Copies a folder from the head to this machine, and tells whether it had to: not if its disk outlives the head."""
    quoted = re.sub(r"([^A-Za-z0-9_./~-])", r"\\\1", folder)  # for the head's shell, which expands ``~``
    answer = _ray("exec", str(path), f"stat -f -c kind=%T {quoted} || echo kind=none", quiet=True)
    kinds = re.findall(r"kind=([\w/-]+)", answer)
    if kinds and kinds[-1] in (*_LASTING, "none"):
        return False
    target.mkdir(parents=True, exist_ok=True)
    _ray("rsync-down", str(path), f"{folder.rstrip('/')}/", f"{target}/", quiet=True)
    return True


@contextmanager
def jobs_url(cluster: str) -> Iterator[str]:
    """The address of a cluster's Jobs API, from itself or from a launcher file, whose head is reached through ssh."""
    path = Path(cluster)
    if path.suffix not in (".yaml", ".yml"):
        match = _JOBS_ADDRESS.fullmatch(cluster)
        if match is None:
            raise UserError(
                f"--cluster must be a launcher file (.yaml) or HOST:PORT of the Jobs API, got {cluster}; "
                f"its port is {_JOBS_PORT} by default"
            )
        yield f"{match['scheme'] or 'http'}://{match['host']}:{match['port'] or _JOBS_PORT}"
        return
    read_launcher_file(path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [_program(), "dashboard", str(path), "--port", str(port), "--remote-port", str(_JOBS_PORT)]
    # With our own input, ssh would read what the user types for us.
    tunnel = subprocess.Popen(
        command, env=_environment(), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
    )
    try:
        _wait_for(port, tunnel, path)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(tunnel.pid, 15)
        tunnel.wait()


def _wait_for(port: int, tunnel: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + _TUNNEL_SECONDS
    while time.monotonic() < deadline and tunnel.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.3)
        else:
            return
    raise SweepFailed(
        f"the head of {path} cannot be reached through ssh; is the cluster up? `robustfront cluster up {path}`"
    )


def _check_token(path: Path, values: Mapping[str, Any]) -> None:
    """Checks that the cluster uses the token: without it, anyone who reaches the cluster could run anything."""
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        if not any("RAY_AUTH_MODE=token" in command for command in values.get(key) or []):
            raise UserError(
                f"{key} must start Ray with RAY_AUTH_MODE=token, got {path} without it; see configs/cluster"
            )
    sources = [Path(source).expanduser() for source in (values.get("file_mounts") or {}).values()]
    if token_file() not in sources:
        raise UserError(
            f"file_mounts must copy the token to the nodes, got {path} without it; "
            f'add "~/.ray/auth_token": "{token_file()}"'
        )


def _ray(*arguments: str, quiet: bool = False, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [_program(), *arguments],
        env={**_environment(), **(environment or {})},
        text=True,
        stdout=PIPE if quiet else None,
        stderr=STDOUT if quiet else None,
    )
    if done.returncode != 0:
        lines = (done.stdout or "").strip().splitlines()
        reason = f" ({lines[-1]})" if lines else ""
        raise SweepFailed(f"`ray {arguments[0]}` failed{reason}; fix that and run the same command again")
    return done.stdout or ""


def _environment() -> dict[str, str]:
    return {**os.environ, **auth_environment(), "RAY_USAGE_STATS_ENABLED": "0"}


def _program() -> str:
    beside = Path(sys.executable).with_name("ray")
    return str(beside) if beside.exists() else shutil.which("ray") or "ray"
