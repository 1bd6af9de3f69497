"""optuna-dashboard on a run's study, only to read: a click there cannot change what counts."""

from __future__ import annotations

import signal
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from search.errors import UserError
from search.runs.folder import Run
from search.study.storage import open_storage

_HOST: Final = "127.0.0.1"


class _Server(ThreadingMixIn, WSGIServer):
    """Answers while a browser keeps other connections open."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve_dashboard(run: Run, port: int) -> None:
    """Prints the link to the run's study in optuna-dashboard, and serves it on this machine until Ctrl-C.

    The process is then done: SIGINT, SIGTERM and SIGHUP stay as interrupts. Raises what ``dashboard_server`` does.
    """
    server, address = dashboard_server(run, port)
    # Also for SIGTERM, a closed terminal, and Ctrl-C that a shell ignored for a background job.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with server:
        try:
            print(f"{address}\nCtrl-C stops it.", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            print("Stopped.")


def dashboard_server(run: Run, port: int) -> tuple[WSGIServer, str]:
    """The server, bound to the port but not serving yet, and the address of the run's study.

    Raises:
        UserError: optuna-dashboard is not installed, the port is in use, or the run has no study yet.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise UserError(
            "--optuna must find optuna-dashboard, which is not installed; install it with `uv sync --extra dashboard` "
            "or `pip install optuna-dashboard`"
        ) from None
    storage = open_storage(run.storage_url, create=False, read_only=True)
    study = storage.get_study_id_from_name(run.name)
    try:
        server = make_server(_HOST, port, wsgi(storage), _Server, _QuietHandler)
    except OSError as error:
        raise UserError(
            f"--port must be free on {_HOST}, got {port} ({error.strerror}); choose another, such as --port {port + 1}"
        ) from None
    return server, f"http://{_HOST}:{port}/dashboard/studies/{study}"
