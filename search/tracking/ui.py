"""MLflow's own UI for the recorded runs: a lean server in a process of its own, and direct links to a sweep's views."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any, Final
from urllib.request import ProxyHandler, build_opener

from search.config import sqlite_file
from search.errors import SweepFailed, UserError
from search.tracking.client import client_of, explain, is_server, preload_mlflow, shown
from search.tracking.view import View, experiment_url, sweep_url, view_tag

_HOST: Final = "127.0.0.1"
_LINKS: Final[Sequence[tuple[str, View, bool]]] = (
    ("settings", "settings", False),
    ("charts", "settings", True),
    ("front", "front", False),
    ("curves", "curves", True),
)
_START_SECONDS, _STOP_SECONDS, _REQUEST_SECONDS, _POLL_SECONDS = 120.0, 5.0, 10.0, 0.2


def serve_ui(uri: str, artifact_root: Path, *, experiment: str, sweep: str | None, port: int) -> None:
    """Prints the links to a sweep's views, or the one to all runs of the experiment if ``sweep`` is None.

    Unless the tracking URI is a server, one is started on this machine, at ``port``, until Ctrl-C. The process is then
    done: SIGTERM and SIGHUP stay as interrupts.
    """
    if is_server(uri):
        print(links(uri, shown(uri), experiment, sweep))
        return
    # Also for SIGTERM, a closed terminal, and Ctrl-C that a shell ignored for a background job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        print("Starting MLflow's UI, this takes a few seconds ...")
        preload_mlflow()
        with running_server(uri, artifact_root, port) as (server, process):
            print(f"{links(uri, server, experiment, sweep)}\nCtrl-C stops it.")
            process.wait()
            raise SweepFailed(f"MLflow's server stopped (exit code {process.returncode}); start it again")
    except KeyboardInterrupt:
        print("Stopped.")


def links(uri: str, server: str, experiment: str, sweep: str | None) -> str:
    """The direct links to a sweep, or to all runs of the experiment, at the MLflow server that shows ``uri``.

    One line per view of the sweep: its settings, as a table and with their charts, the front, and the sweep's curves.
    """
    try:
        known = client_of(uri).get_experiment_by_name(experiment)
    except Exception as error:  # whatever MLflow or a database driver raises
        raise UserError(
            f"tracking.uri must be a server that answers, got {shown(uri)} ({explain(uri, error)}); "
            "start it or correct the URI"
        ) from None
    if known is None:
        raise UserError(f"tracking.experiment must exist at {shown(uri)}, got {experiment}; run a sweep first")
    if sweep is None:
        return experiment_url(server, known.experiment_id)
    page = partial(sweep_url, server, known.experiment_id, sweep)
    return "\n".join(
        f"{title:<9}{page(view, saved=view_tag(sweep, view) in known.tags, charts=charts)}"
        for title, view, charts in _LINKS
    )


@contextmanager
def running_server(uri: str, artifact_root: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Runs MLflow's server as a process until the ``with`` block ends; gives its address once it answers.

    A port in use or a missing database is a ``UserError``, a server that does not start ``SweepFailed``.
    """
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise UserError(
            f"tracking.uri must be a database with runs, got {database}, which does not exist; run a sweep first"
        )
    _check_port(port)
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Background jobs are for MLflow's language model features; they dominate the start and leave processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not on the command line, where other users of the machine would see a database's password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", artifact_root.absolute().as_uri()]
    with tempfile.TemporaryFile() as log:
        # In a session of its own, Ctrl-C does not reach it, and one signal to its group ends all its processes.
        process = subprocess.Popen(
            command, env=environment, stdin=DEVNULL, stdout=log, stderr=STDOUT, start_new_session=True
        )
        try:
            server = f"http://{_HOST}:{port}"
            _wait_until_healthy(server, process, log)
            yield server, process
        finally:
            _stop(process)


def _wait_until_healthy(server: str, process: subprocess.Popen[bytes], log: Any) -> None:
    opener = build_opener(ProxyHandler({}))  # a proxy would look for this address on its own machine
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or ["no output"]
            raise SweepFailed(
                f"MLflow's server did not start: {lines[-1]}; try another --port, or `robustfront doctor`"
            )
        try:
            with opener.open(f"{server}/health", timeout=_REQUEST_SECONDS):
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


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise UserError(
                f"--port must be free on {_HOST}, got {port} ({error.strerror}); choose another, "
                f"such as --port {port + 1}"
            ) from None
