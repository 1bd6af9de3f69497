"""The background writer: retries, order, and what it says about what is missing."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.records import TrialRecord
from search.tracking import queue
from search.tracking.mirror import SweepRuns
from search.tracking.queue import Tracker
from tests.search.tracking.examples import EXPERIMENT, Shown, mirror, parent, trial, wait_for

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[3]


def test_what_mlflow_would_log_of_a_write_that_fails_is_not_printed(store: str, tmp_path: Path) -> None:
    code = (
        "import sqlite3, sys; from pathlib import Path; from tests.search.tracking.examples import *\n"
        "sqlite3.connect(sys.argv[1].removeprefix('sqlite:///')).execute('DROP TABLE metrics')\n"
        "print(mirror(sys.argv[1], Path(sys.argv[2]), [trial()]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, store, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "table metrics" in done.stdout
    assert done.stderr == ""


def test_lost_answer_leaves_no_second_child(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that did create the run, but whose answer never came."""
    from mlflow import MlflowClient

    monkeypatch.setattr(queue, "_FIRST_RETRY_SECONDS", 0.01)
    original = MlflowClient.create_run
    failures = iter([True])

    def lose_an_answer(client: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        run = original(client, *args, **kwargs)
        if "robustfront.number" in kwargs["tags"] and next(failures, False):
            raise ConnectionError("timed out")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", lose_an_answer)
    assert mirror(store, tmp_path, [trial("0")]) is None
    shown = Shown(store)
    assert next(failures, False) is False
    assert len(shown.history(shown.trials["0"], "train_loss")) == 3


def test_one_trial_that_fails_does_not_hold_up_the_others(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SweepRuns.trial

    def refuse(self: Any, record: TrialRecord, history: Sequence[Mapping[str, float]], setting: None) -> None:
        if record.number == "1":
            raise RuntimeError("the server does not like it")
        original(self, record, history, setting)

    monkeypatch.setattr(SweepRuns, "trial", refuse)
    lack = mirror(store, tmp_path, [trial("0"), trial("1"), trial("2")])
    assert lack == f"MLflow lacks 1 trial ({store}: the server does not like it)"
    assert set(Shown(store).trials) == {"0", "2"}
    assert Shown(store).sweep.info.status == "FINISHED"


def test_a_summary_that_fails_is_written_before_later_ones(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps the last written step; a step below it counts as written."""
    from mlflow import MlflowClient

    monkeypatch.setattr(queue, "_FIRST_RETRY_SECONDS", 0.01)
    original = MlflowClient.log_batch
    failures = iter([True])

    def refuse_step_5(client: MlflowClient, run_id: str, *args: Any, **kwargs: Any) -> None:
        if any(metric.step == 5 for metric in kwargs.get("metrics", ())) and next(failures, False):
            raise ConnectionError("timed out")
        original(client, run_id, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", refuse_step_5)
    tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
    tracker.start(parent(tmp_path))
    for step in range(1, 8):
        tracker.summary({"hypervolume": step / 10}, step, when=float(step))
    assert tracker.close("FINISHED", 60) is None
    assert next(failures, False) is False
    shown = Shown(store)
    assert shown.history(shown.sweep, "hypervolume") == [(step, step / 10) for step in range(1, 8)]


def test_unreachable_server_costs_nothing_and_is_reported(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    tracker = Tracker(f"http://me:secret@127.0.0.1:{port}", EXPERIMENT, "quick")
    tracker.start(parent(tmp_path))
    slowest = 0.0
    for number in range(26):
        began = time.perf_counter()
        tracker.update(*trial(str(number)))
        tracker.summary({"hypervolume": 0.5}, number + 1, when=float(number))
        slowest = max(slowest, time.perf_counter() - began)
    wait_for(lambda: tracker.problem is not None)
    began = time.perf_counter()
    lack = tracker.close("FINISHED", 10)
    assert time.perf_counter() - began < 11
    assert slowest < 0.1
    assert lack == f"MLflow lacks 26 trials (cannot reach http://127.0.0.1:{port}: connection refused)"


def test_silent_server_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """It accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", EXPERIMENT, "quick")
        tracker.start(parent(tmp_path))
        tracker.update(*trial("0"))
        began = time.perf_counter()
        lack = tracker.close("KILLED", 0.5)
        assert time.perf_counter() - began < 1.5
    assert lack is not None
    assert "lacks 1 trial (" in lack


def test_newest_state_of_a_trial_wins(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0", "running", 1), trial("0", "running", 2), trial("0")])
    shown = Shown(store)
    assert shown.trials["0"].info.status == "FINISHED"
    assert [step for step, _ in shown.history(shown.trials["0"], "train_loss")] == [1, 2, 3]


def test_tracker_that_never_started_has_nothing_to_say() -> None:
    assert Tracker("sqlite:////nowhere/mlflow.db", EXPERIMENT, "quick").close("FAILED") is None
