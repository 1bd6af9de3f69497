"""MLflow's server stops and comes back while a real sweep's driver is killed and resumed; in the end it has everything.

uv run pytest -m slow tests/chaos
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from search.runs.folder import Run
from search.study import read_records
from search.tracking.client import preload_mlflow
from search.tracking.reading import read_tracked
from search.tracking.ui import running_server
from tests.chaos.sweep import AGENTS, BASELINES, Sweep
from tests.search.sweep.test_driver import PATIENCE, arguments

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # MLflow's own calls are not ours to change.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

TRIALS = 40  # of one second each, so that the sweep outlasts two kills and the server's return
KILLS = 2  # an even number: one while the server is down, one after its return
MOST_SECONDS = 2.0  # between the sweep's progress and the next disturbance


class Server:
    """MLflow's own server, which stops and comes back at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port, self._running = folder, lasting_port(), ExitStack()
        (folder / "mlflow.db").touch()
        self.up = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns once it answers."""
        database, artifacts = f"sqlite:///{self._folder / 'mlflow.db'}", self._folder / "artifacts"
        self._running.enter_context(running_server(database, artifacts, port=self._port))
        self.up = True

    def stop(self) -> None:
        """Sends SIGTERM, whatever the server is doing."""
        self._running.close()
        self.up = False


def lasting_port() -> int:
    """A free port below the ephemeral range, so that no other process is given it while the server is down."""
    for port in range(20_000, 32_768):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    preload_mlflow()  # imports MLflow's client while its server starts
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


def run_of(sweep: Sweep) -> Run:
    return Run.open("quickstart", sweep.folder / "runs")


def ended(sweep: Sweep) -> set[str]:
    """Numbers of the trials that have ended, according to the ledger."""
    return {record.number for record in read_records(run_of(sweep)) if record.state == "complete"}


def ended_in_mlflow(sweep: Sweep) -> set[str]:
    """The same according to MLflow."""
    run = run_of(sweep)
    _, children = read_tracked(run.tracking_uri, run.config.tracking.experiment, run.manifest()["id"])
    return {child.number for child in children if child.status == "FINISHED"}


def wait_until(condition: Callable[[], object]) -> float:
    """Waits and returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE
        time.sleep(1)
    return time.monotonic() - began


def bring_back(server: Server, sweep: Sweep, before: set[str]) -> None:
    """Starts the server once it has missed the end of some trials, and waits for the driver to write them.

    Args:
        server: A stopped server.
        sweep: A running sweep.
        before: Trials that had ended when the server was stopped.
    """
    wait_until(lambda: ended(sweep) > before)
    with sweep.workers_suspended():  # otherwise the sweep may end before a slow machine has started the server
        missed = ended(sweep) - before
        server.start()
        seconds = wait_until(lambda: missed <= ended_in_mlflow(sweep))
    print(f"MLflow has {len(missed)} trials that it missed, {seconds:.0f} s after its return", flush=True)


def test_mlflow_gets_what_it_missed_from_the_driver_or_from_resume(tmp_path: Path, server: Server) -> None:
    sweep, draw = Sweep(tmp_path, trials=TRIALS, tracking_uri=server.address), random.Random(0)

    def wait_for_a_random_time(driver: subprocess.Popen[str]) -> None:
        sweep.wait_for_progress(driver)
        time.sleep(draw.uniform(0, MOST_SECONDS))
        assert driver.poll() is None, "the sweep ended before its kills"

    before: set[str] = set()
    for kill in range(1, KILLS + 1):
        driver = sweep.start(arguments())
        wait_for_a_random_time(driver)
        if server.up:
            before = ended(sweep)
            server.stop()
        else:
            bring_back(server, sweep, before)
        wait_for_a_random_time(driver)
        driver.kill()
        assert driver.wait(timeout=PATIENCE) == -signal.SIGKILL
        sweep.wait_until_all_exit(ignoring=AGENTS)
        finished, epochs = sweep.progress()
        state = "up" if server.up else "down"
        print(f"kill {kill}: MLflow {state}, {finished} trials finished and {epochs} epochs of the next", flush=True)

    driver = sweep.start(arguments())
    wait_for_a_random_time(driver)
    server.stop()
    assert driver.wait(timeout=PATIENCE) == 0, (tmp_path / "output.txt").read_text()
    assert "MLflow lacks" in (tmp_path / "output.txt").read_text()
    server.start()
    missed = TRIALS + BASELINES - len(ended_in_mlflow(sweep))
    assert missed > 0
    sweep.finish()  # nothing is left to train
    print(f"resume wrote {missed} trials", flush=True)
    sweep.check()
