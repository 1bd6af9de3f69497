"""MLflow's own UI for the recorded runs: a lean server on this machine, and a direct link to the sweep.

Nothing here imports MLflow: the server is a separate process, asked through its REST API.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from search.errors import SweepFailed, UserError
from search.tracking.client import credentials, is_server, shown, sqlite_file
from search.tracking.view import experiment_url, sweep_url, view_tag

_START_SECONDS, _STOP_SECONDS, _REQUEST_SECONDS, _POLL_SECONDS = 120.0, 5.0, 10.0, 0.2


def serve_ui(
    uri: str,
    artifact_root: Path,
    *,
    experiment: str,
    sweep: str | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    say: Callable[[str], None] = print,
) -> None:
    """Prints the link to a sweep, or to all runs of the experiment if ``sweep`` is None.

    Unless the tracking URI is a server, one is started on this machine, at ``host`` and ``port``, until Ctrl-C.
    """
    if is_server(uri):
        say(link(uri, experiment, sweep))
        return
    with _signals_as_interrupt():
        try:
            say("Starting MLflow's UI, this takes a few seconds ...")
            with running_server(uri, artifact_root, host, port) as (server, process):
                say(f"{link(server, experiment, sweep)}\nCtrl-C stops it.")
                process.wait()
                raise SweepFailed(f"MLflow's server stopped (exit code {process.returncode}); start it again")
        except KeyboardInterrupt:
            say("Stopped.")


def link(server: str, experiment: str, sweep: str | None) -> str:
    """The direct link to a sweep, or to all runs of the experiment, at a running MLflow server."""
    try:
        answer = _ask(server, "experiments/get-by-name", {"experiment_name": experiment})
    except (OSError, ValueError) as error:  # URLError is an OSError
        if isinstance(error, HTTPError) and error.code == 404:
            raise UserError(
                f"tracking.experiment must exist at {shown(server)}, got {experiment}; run a sweep first"
            ) from None
        raise UserError(
            f"tracking.uri must be a server that answers, got {shown(server)} ({error}); start it or correct the URI"
        ) from None
    experiment_id = str(answer["experiment"]["experiment_id"])
    if sweep is None:
        return experiment_url(shown(server), experiment_id)
    tags = {tag["key"] for tag in answer["experiment"].get("tags", [])}
    return sweep_url(shown(server), experiment_id, sweep, view=view_tag(sweep) in tags)


@contextmanager
def running_server(
    uri: str, artifact_root: Path, host: str = "127.0.0.1", port: int = 5000
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs MLflow's server as a process until the ``with`` block ends; gives its address once it answers.

    A port in use or a missing database is a ``UserError``, a server that does not start ``SweepFailed``.
    """
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise UserError(
            f"tracking.uri must be a database with runs, got {database}, which does not exist; run a sweep first"
        )
    _check_port(host, port)
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Background jobs are for MLflow's language model features; they dominate the start and leave processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on the command line, where other users of the machine would see a database's password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", artifact_root.absolute().as_uri()]
    with tempfile.TemporaryFile() as log:
        # In a session of its own, Ctrl-C does not reach it, and one signal to its group ends all its processes.
        process = subprocess.Popen(
            command, env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT, start_new_session=True
        )
        try:
            server = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            _wait_until_healthy(server, process, log)
            yield server, process
        finally:
            _stop(process)


def _wait_until_healthy(server: str, process: subprocess.Popen[bytes], log: Any) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or ["no output"]
            raise SweepFailed(
                f"MLflow's server did not start: {lines[-1]}; try another --port, or `robustfront doctor`"
            )
        try:
            with _open(f"{server}/health"):
                return
        except OSError:
            time.sleep(_POLL_SECONDS)
    raise SweepFailed(f"MLflow's server did not answer within {_START_SECONDS:.0f} s; try again on a less busy machine")


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)  # whatever is left of its children
    process.wait()


def _check_port(host: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise UserError(f"--port must be in [1, 65535], got {port}; 5000 is usual")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"--port must be free on {host}, got {port} ({error.strerror}); choose another, such as --port {port + 1}"
        ) from None


def _open(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """Opens a page. A proxy is bypassed for this machine's addresses: it would look on its own machine."""
    local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
    request = Request(url, headers=dict(headers or {}))
    return build_opener(*[ProxyHandler({})] if local else []).open(request, timeout=_REQUEST_SECONDS)


def _ask(server: str, path: str, query: dict[str, str]) -> dict[str, Any]:
    known = credentials(server)
    headers = {"Authorization": f"Basic {b64encode(':'.join(known).encode()).decode()}"} if known else {}
    with _open(f"{shown(server).rstrip('/')}/api/2.0/mlflow/{path}?{urlencode(query)}", headers) as answer:
        content = json.load(answer)
    assert isinstance(content, dict)
    return content


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Turns Ctrl-C (even if a shell ignored it for a background job), SIGTERM and a closed terminal into one error."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
