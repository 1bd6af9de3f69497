"""What MLflow shows of a sweep, in a real SQLite store."""

from __future__ import annotations

import math
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from search.sweep.driver import _parent
from search.tracking.mirror import FRONT_TABLE, Setting, metric_name
from search.tracking.queue import Tracker
from search.tracking.view import VIEWS, view_tag
from tests.search.examples import small_config
from tests.search.tracking.examples import EXPERIMENT, START, Shown, mirror, parent, trial, wait_for

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_trial_is_a_nested_child_with_everything(store: str, tmp_path: Path) -> None:
    assert mirror(store, tmp_path, [trial("7")]) is None
    shown = Shown(store)
    run = shown.trials["7"]
    assert run.data.tags["mlflow.parentRunId"] == shown.sweep.info.run_id
    assert run.info.run_name == "trial 7: s=1.25 m=0.03333"
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == ((START + 700) * 1000, (START + 720) * 1000)
    assert run.data.params == {
        "number": "7",
        "loss": "i-sce",
        "defence": "none",
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


def test_sweeps_with_the_same_parent_stand_below_one_run(store: str, tmp_path: Path) -> None:
    for sweep in ("first", "second", "second"):  # the last one again, as a resumed driver does
        tracker = Tracker(store, EXPERIMENT, sweep, artifact_root=tmp_path / "artifacts")
        tracker.start(replace(parent(tmp_path, identity=sweep), above="both"))
        assert tracker.close("FINISHED", 60) is None
    runs = Shown(store).runs
    assert sorted(run.info.run_name for run in runs) == ["both", "first", "second"]
    (above,) = [run for run in runs if run.info.run_name == "both"]
    assert {run.data.tags.get("mlflow.parentRunId") for run in runs if run is not above} == {above.info.run_id}
    assert above.info.status == "FINISHED"


def test_a_trial_shows_its_defence_with_all_settings(store: str, tmp_path: Path) -> None:
    """A value that is searched is the trial's own; the others are the configuration's."""
    defence = {"name": "adversarial-training", "epsilon": 0.1, "steps": 3}
    config = small_config(defence=defence, space={"defence.epsilon": {"low": 0, "high": 0.2}})
    run = Run.plan(config, tmp_path / "runs")
    run.create(prepare_dataset(config.data))
    tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
    tracker.start(_parent(run))
    searched, history = trial("0", defence="adversarial-training", parameters={"s": 1.0, "defence.epsilon": 0.05})
    tracker.update(searched, history)
    tracker.update(*trial("B0", defence="adversarial-training", parameters={}))
    assert tracker.close("FINISHED", 60) is None
    shown = Shown(store).trials
    for number, epsilon in (("0", "0.05"), ("B0", "0.1")):
        expected = {"defence": "adversarial-training", "defence.epsilon": epsilon, "defence.steps": "3"}
        assert expected.items() <= shown[number].data.params.items()
        assert shown[number].data.params["defence.norm"] == "linf"


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
    assert tracker.close("FINISHED", 60) is None
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
    assert {view_tag("quick", view) for view in VIEWS} <= set(shown.experiment.tags)


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
        [trial("B0", loss="cross-entropy", parameters={}), trial("B1", parameters={"s": 1.0, "kernel": "rbf"})],
    )
    baselines = Shown(store).trials
    assert [baselines[name].info.run_name for name in ("B0", "B1")] == [
        "baseline B0: cross-entropy",
        "baseline B1: i-sce s=1 kernel=rbf",
    ]
    assert {run.data.tags["robustfront.kind"] for run in baselines.values()} == {"baseline"}


def test_the_run_of_a_first_seed_shows_the_setting(store: str, tmp_path: Path) -> None:
    """Its means over all seeds: as claimed, and as verified once there is an audit."""
    first, history = trial("0")
    second = replace(first, number="R0", extends="0", seed_index=1)
    pooled = replace(
        first,
        objectives={"clean_accuracy": 0.96, "robust_accuracy": 0.4 + 1e-7},
        seeds=(11, 12),
        extensions=("R0",),
        verdict=None,
    )
    mirror(store, tmp_path, [(first, history, Setting(pooled, 2)), (second, history)])
    shown = Shown(store).trials
    assert shown["R0"].info.run_name == "R0 of 0: s=1.25 m=0.03333"
    assert not {"clean", "robust", "verified"} & set(shown["R0"].data.metrics)
    assert shown["0"].data.metrics.items() >= {"clean": 0.96, "robust": 0.4, "robust_accuracy": 0.41}.items()
    assert (shown["0"].data.tags["verdict"], shown["0"].data.tags["seeds"]) == ("claimed", "2")
    assert "verified" not in shown["0"].data.metrics

    audited = replace(
        pooled,
        objectives={"clean_accuracy": 0.96, "robust_accuracy": 0.35},
        accuracies={"claimed_accuracy": 0.4},
        verdict="sound",
    )
    mirror(store, tmp_path, [(first, history, Setting(audited, 3))])
    run = Shown(store).trials["0"]
    assert run.data.metrics.items() >= {"robust": 0.4, "verified": 0.35}.items()
    assert run.data.tags["verdict"] == "sound"


def test_the_front_is_marked_whether_its_runs_exist_yet_or_not(store: str, tmp_path: Path) -> None:
    def on_front() -> dict[str, str | None]:
        return {number: run.data.tags.get("robustfront.front") for number, run in Shown(store).trials.items()}

    for front, expected in ((["0"], ("true", None)), (["1"], ("false", "true"))):
        tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
        tracker.start(parent(tmp_path))
        tracker.front(front)  # before any trial
        tracker.update(*trial("0"))
        tracker.update(*trial("1"))
        assert tracker.close("FINISHED", 60) is None
        assert on_front() == dict(zip("01", expected, strict=True))


def test_results_describe_the_sweep_and_a_repeated_write_changes_nothing(store: str, tmp_path: Path) -> None:
    import mlflow

    table = '{"columns": ["number", "s"], "data": [[3, 1.5], [4, null]]}'
    for _ in range(2):
        tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
        tracker.start(parent(tmp_path))
        tracker.results("**Answer**", table)
        assert tracker.close("FINISHED", 60) is None
    mlflow.set_tracking_uri(store)
    shown = Shown(store)
    front = shown.client.load_table(shown.experiment.experiment_id, FRONT_TABLE)
    assert front["number"].tolist() == [3, 4]
    # A driver that resumes keeps the summary until it has a newer one.
    tracker = Tracker(store, EXPERIMENT, "quick", artifact_root=tmp_path / "artifacts")
    tracker.start(parent(tmp_path))
    assert tracker.close("FINISHED", 60) is None
    assert Shown(store).sweep.data.tags["mlflow.note.content"] == "**Answer**"


def test_replicates_are_told_apart(store: str, tmp_path: Path) -> None:
    record, history = trial()
    record = replace(record, seeds=(1, 2), replicates=({"clean_accuracy": 0.96}, {"clean_accuracy": 0.98}))
    history = [{**row, "train_loss[0]": 1.0, "train_loss[1]": math.nan} for row in history]
    assert mirror(store, tmp_path, [(record, history)]) is None
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
    assert tracker.close("FINISHED", 60) is None

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
    assert mirror(store, tmp_path, [trial("0", epochs=700)]) is None
    shown = Shown(store)
    assert [step for step, _ in shown.history(shown.trials["0"], "train_loss")] == list(range(1, 701))


def test_database_is_analysed(store: str, tmp_path: Path) -> None:
    mirror(store, tmp_path, [trial("0")])
    with sqlite3.connect(store.removeprefix("sqlite:///")) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone()[0] > 0
    connection.close()


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
