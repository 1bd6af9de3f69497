"""MLflow's server as a user meets it: the UI command, and a sweep that records into a server that comes and goes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import psutil
import pytest

from analysis.records import TrialRecord
from search.errors import SweepFailed, UserError
from search.tracking import queue
from search.tracking.mirror import ParentInfo
from search.tracking.queue import Tracker
from search.tracking.ui import links, running_server, serve_ui
from tests.search.tracking.examples import EXPERIMENT, free_port, wait_for

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass(frozen=True)
class Server:
    address: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("runs")
    database = folder / "mlflow.db"
    database.touch()
    with running_server(f"sqlite:///{database}", folder / "artifacts", port=free_port()) as (address, process):
        yield Server(address, process)
    assert not psutil.pid_exists(process.pid)


def record(number: str, epochs: int, done: bool) -> tuple[TrialRecord, list[dict[str, float]]]:
    start = 1_790_000_000.0 + 100 * int(number)
    history = [{"epoch": float(e), "time": start + e, "train_loss": 1 / e} for e in range(1, epochs + 1)]
    objectives = {"clean_accuracy": 0.97, "robust_accuracy": 0.4} if done else {}
    trial = TrialRecord(
        number=number,
        loss="i-sce",
        parameters={"s": 1.5, "m": 0.05},
        state="complete" if done else "running",
        objectives=objectives,
        epochs=epochs,
        started=start,
        finished=start + 30 if done else None,
    )
    return trial, history


def start(uri: str, sweep: str, folder: Path) -> Tracker:
    tracker = Tracker(uri, EXPERIMENT, sweep)
    objectives = ("clean_accuracy", "robust_accuracy")
    tracker.start(ParentInfo(identity=sweep, run_dir=folder, config="", searched=("s", "m"), objectives=objectives))
    return tracker


def search_runs(server: str, experiment_id: str, condition: str) -> list[dict[str, Any]]:
    body = json.dumps({"experiment_ids": [experiment_id], "filter": condition}).encode()
    request = Request(f"{server}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        runs: list[dict[str, Any]] = json.load(answer).get("runs", [])
    return runs


def test_link_leads_to_the_sweep(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = start(server.address, "linked", tmp_path)
    for number in ("0", "1"):
        tracker.update(*record(number, 3, done=True))
    tracker.front(["1"])
    assert tracker.close("FINISHED", 60) is None

    serve_ui(server.address, tmp_path, experiment=EXPERIMENT, sweep="linked", port=free_port())
    pages = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(pages) == ["settings", "charts", "front", "curves"]
    with urlopen(pages["settings"], timeout=30) as page:
        assert page.status == 200
    found = {
        name: search_runs(server.address, *experiment_and_filter(server.address, url)) for name, url in pages.items()
    }
    names = {name: {run["info"]["run_name"] for run in runs} for name, runs in found.items()}
    settings = {"trial 0: s=1.5 m=0.05", "trial 1: s=1.5 m=0.05"}
    assert names == {"settings": settings, "charts": settings, "front": {"trial 1: s=1.5 m=0.05"}, "curves": {"linked"}}

    # A sweep without saved views is linked by the same searches.
    for line in links(server.address, server.address, EXPERIMENT, "other").splitlines():
        name, url = line.split(maxsplit=1)
        query = parse_qs(urlsplit(url).fragment.partition("?")[2])
        assert query["searchFilter"] == [
            experiment_and_filter(server.address, pages[name])[1].replace("linked", "other")
        ]
    assert "searchFilter" not in links(server.address, server.address, EXPERIMENT, None)


def experiment_and_filter(server: str, url: str) -> tuple[str, str]:
    """The experiment of a link, and the search of the view that it opens."""
    path, _, query = urlsplit(url).fragment.partition("?")
    experiment_id = path.split("/")[2]
    (key,) = parse_qs(query)["viewStateShareKey"]
    with urlopen(f"{server}/api/2.0/mlflow/experiments/get?experiment_id={experiment_id}", timeout=30) as answer:
        tags = {tag["key"]: tag["value"] for tag in json.load(answer)["experiment"]["tags"]}
    return experiment_id, json.loads(json.loads(tags[f"mlflow.sharedViewState.{key}"])["state"])["searchFilter"]


def test_unknown_experiment_is_the_users_mistake(server: Server) -> None:
    with pytest.raises(UserError, match=r"tracking\.experiment must exist at .*, got nothing-here; run a sweep first"):
        links(server.address, server.address, "nothing-here", None)


def test_server_that_goes_away_and_comes_back_misses_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "_ROUND_SECONDS", 0.05)
    monkeypatch.setattr(queue, "_FIRST_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(queue, "_LAST_RETRY_SECONDS", 0.2)
    port = free_port()
    with relay(port, server.address):
        tracker = start(f"http://127.0.0.1:{port}", "outage", tmp_path)
        tracker.update(*record("0", 3, done=True))
        tracker.update(*record("1", 1, done=False))
        tracker.summary({"hypervolume": 0.1}, 1, when=1.0)
        wait_for(lambda: not tracker._pending)
        assert tracker.problem is None
    # Gone: what happens now waits, and only the newest state of it.
    for epochs in (2, 3):
        tracker.update(*record("1", epochs, done=False))
    tracker.update(*record("1", 4, done=True))
    tracker.update(*record("2", 2, done=True))
    tracker.summary({"hypervolume": 0.2}, 2, when=2.0)
    wait_for(lambda: tracker.problem is not None)
    assert tracker.problem == f"cannot reach http://127.0.0.1:{port}: connection refused"
    with relay(port, server.address):
        assert tracker.close("FINISHED", 60) is None

    from mlflow import MlflowClient

    client = MlflowClient(server.address)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`robustfront.sweep` = 'outage'")
    steps = {
        run.info.run_name: [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")]
        for run in runs
    }
    setting = "s=1.5 m=0.05"
    assert steps == {
        "outage": [],
        f"trial 0: {setting}": [1, 2, 3],
        f"trial 1: {setting}": [1, 2, 3, 4],
        f"trial 2: {setting}": [1, 2],
    }
    assert {run.info.status for run in runs} == {"FINISHED"}
    (sweep,) = [run for run in runs if run.info.run_name == "outage"]
    points = client.get_metric_history(sweep.info.run_id, "hypervolume")
    assert [(point.step, point.value) for point in points] == [(1, 0.1), (2, 0.2)]


def test_ctrl_c_stops_the_server_and_all_that_it_started(tmp_path: Path) -> None:
    """With a server that starts at once in place of MLflow's, which takes long."""
    (tmp_path / "mlflow.db").touch()
    port = free_port()
    script = f"""
import sys
from pathlib import Path
import search.tracking.ui
sys.executable = {str(fake_server(tmp_path))!r}
search.tracking.ui.links = lambda uri, server, experiment, sweep: server
store, folder = "sqlite:///{tmp_path}/mlflow.db", Path("{tmp_path}")
search.tracking.ui.serve_ui(store, folder, experiment="e", sweep=None, port={port})
"""
    for number in (signal.SIGINT, signal.SIGTERM):
        user = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)
        assert user.stdout is not None
        lines = [user.stdout.readline() for _ in range(3)]
        assert lines[1] == f"http://127.0.0.1:{port}\n"
        started = psutil.Process(user.pid).children(recursive=True)
        assert len(started) == 2
        user.send_signal(number)
        assert user.stdout.read() == "Stopped.\n"
        assert user.wait(20) == 0
        user.stdout.close()
        psutil.wait_procs(started, 5)
        assert not any(process.is_running() for process in started)


def test_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").touch()
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho first; echo no such revision; exit 3\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with (
        pytest.raises(SweepFailed, match="did not start: no such revision"),
        running_server(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, port=free_port()),
    ):
        pass


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port must be free on 127\.0\.0\.1, got {port} .*--port {port + 1}"):
            serve_ui(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, experiment="e", sweep=None, port=port)


def test_nothing_recorded_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a database with runs, got .*, which does not exist; run a sweep"):
        serve_ui(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, experiment="e", sweep=None, port=5000)
    assert not (tmp_path / "mlflow.db").exists()


def test_tracking_server_that_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"tracking\.uri must be a server that answers, got http://127\.0\.0\.1:"
    ) as error:
        serve_ui(f"http://me:secret@127.0.0.1:{free_port()}", tmp_path, experiment="e", sweep=None, port=5000)
    assert "secret" not in str(error.value)


def fake_server(folder: Path) -> Path:
    """A program that takes MLflow's arguments, answers every request, and has a child of its own."""
    program = folder / "fake-server"
    program.write_text(
        f"""#!{sys.executable}
import http.server, subprocess, sys
subprocess.Popen(["sleep", "1000"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
""",
        encoding="utf-8",
    )
    program.chmod(0o755)
    return program


@contextmanager
def relay(port: int, server: str) -> Iterator[None]:
    """Passes connections on to the server while the block lasts; at its end they break, and new ones are refused."""
    target = (urlsplit(server).hostname, urlsplit(server).port)
    open_sockets: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                upstream = socket.create_connection(target)
                open_sockets.extend((client, upstream))
                for pair in ((client, upstream), (upstream, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    listener = socket.create_server(("127.0.0.1", port))
    thread = threading.Thread(target=accept, args=(listener,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        for end in (listener, *open_sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        thread.join(5)
