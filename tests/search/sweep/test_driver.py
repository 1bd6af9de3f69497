"""A real small sweep from the command line to its pictures, and what can be asked of it afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.frames import read_frame
from search.cli.status import read_status
from search.config import load
from search.errors import UserError

QUICKSTART = Path(__file__).parents[2] / "quickstart.yaml"
SMALL = (
    "train.epochs=2",
    "data.train_size=300",
    "data.validation_size=60",
    "robustness.attacks=[{name: pgd, steps: 3}, {name: pgd, loss: dlr, steps: 3}]",
    "robustness.images=20",
    "search.trials=3",
    "audit=null",
)
PATIENCE = 240  # seconds; a shared machine may be slow


def arguments(*words: str, settings: Sequence[str] = ()) -> list[str]:
    overrides = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-c", "from search.cli.main import main; main()", *words, *overrides]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


def robustfront(folder: Path, *words: str, settings: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(*words, settings=settings),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def wait_for(folder: Path, ready: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Reads the status until ``ready`` says so."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            status = read_status("quickstart", folder / "runs").to_json()
        except UserError:  # not begun yet
            status = None
        if status is not None and ready(status):
            return status
        time.sleep(0.2)
    raise AssertionError("the sweep did not get there in time")


@dataclass(frozen=True)
class Finished:
    """A sweep that has run, and what it printed."""

    folder: Path
    output: str

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "quickstart"

    @property
    def trials(self) -> pd.DataFrame:
        return read_frame(self.run)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("sweep")
    done = robustfront(folder, "sweep", str(QUICKSTART), settings=SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # no noise of the libraries, no stray warnings
    return Finished(folder, done.stdout)


def test_it_says_what_it_does_and_what_it_found(finished: Finished) -> None:
    output = finished.output
    assert output.startswith("starting Ray ...\n")
    assert len(re.findall(r"^\[\d/3\] (?:trial|baseline) ", output, re.MULTILINE)) == 5
    assert "Pareto-optimal settings" in output
    assert re.search(r"^MLflow +(uv run )?robustfront ui quickstart$", output, re.MULTILINE)
    assert "runs/quickstart/figures" in output
    assert re.search(r"^Report +runs/quickstart/report.html$", output, re.MULTILINE)
    page = (finished.run / "report.html").read_text(encoding="utf-8")
    assert "No setting can be recommended from one seed each" in page
    assert "could not be made" not in page


def test_records_ledger_and_outcomes_agree(finished: Finished) -> None:
    trials = finished.trials.set_index("number")
    assert sorted(trials.index) == ["0", "1", "2", "B0", "B1"]
    assert (trials["state"] == "complete").all()
    assert (trials["epochs"] == 2).all()
    assert trials.loc["0", ["s", "m"]].tolist() == [1.0, 0.1]
    for name, prefix in (("quickstart", ""), ("quickstart-baselines", "B")):
        study = optuna.load_study(study_name=name, storage=f"sqlite:///{finished.run / 'study.db'}")
        for trial in study.trials:
            row = trials.loc[f"{prefix}{trial.number}"]
            assert trial.values == [row["clean_accuracy"], row["robust_accuracy"]]
    for number, row in trials.iterrows():
        with np.load(finished.run / "outcomes" / f"{number}.npz", allow_pickle=False) as outcomes:
            kept = outcomes["kept"]
            assert kept.shape == (1, 2, 2, 1, 20)
            assert kept.all(axis=(1, 2, 3)).mean() == pytest.approx(row["robust_accuracy"])
            assert outcomes["clean"].mean() == pytest.approx(row["clean_accuracy"])


def test_all_settings_share_their_seed(finished: Finished) -> None:
    assert finished.trials["seeds"].nunique() == 1


def test_mlflow_has_one_child_a_trial(finished: Finished) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished.folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = finished.trials.set_index("number")
    assert sorted(run.data.tags["robustfront.number"] for run in children) == sorted(trials.index)
    for run in children:
        row = trials.loc[run.data.tags["robustfront.number"]]
        assert run.data.metrics["robust_accuracy"] == row["robust_accuracy"]
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
        if not pd.isna(row["s"]):
            assert float(run.data.params["s"]) == row["s"]


def test_the_pictures_are_there(finished: Finished) -> None:
    names = {path.name for path in (finished.run / "figures").iterdir()}
    assert {"pareto.png", "pareto.html", "surfaces.png", "surfaces.html", "surface-clean_accuracy.png"} <= names
    assert {"surface-robust_accuracy.png", "learning-curves.png"} <= names
    assert "surface-pgd3-dlr-worst.png" not in names, "of one attack that is the robust accuracy"


def test_the_manifest_says_what_the_numbers_rest_on(finished: Finished) -> None:
    manifest = json.loads((finished.run / "manifest.json").read_text())
    assert manifest["versions"]["torchattacks"] == "3.5.1"
    assert len(manifest["data"]["sha256"]) == 64
    assert manifest["data"]["sizes"] == {"test": 500, "validation": 60, "train": 300}
    assert load(finished.run / "sweep.yaml").search.trials == 3


def test_status_for_programs_and_for_people(finished: Finished) -> None:
    status = json.loads(robustfront(finished.folder, "status", "quickstart", "--json").stdout)
    assert (status["name"], status["state"]) == ("quickstart", "complete")
    assert status["trials"] == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "budget": 3}
    assert status["hypervolume"] > 0
    for_people = robustfront(finished.folder, "status", "quickstart").stdout
    assert "complete, 3 of 3 settings" in for_people
    assert "ledger, trials.csv and MLflow agree on 5 trials" in for_people


def drop_a_row(run: Path) -> None:
    lines = (run / "trials.csv").read_text().splitlines()
    (run / "trials.csv").write_text("\n".join([*lines[:2], *lines[3:], lines[-1]]) + "\n")


def change_a_number(run: Path) -> None:
    trials = pd.read_csv(run / "trials.csv", dtype=str)
    trials.loc[trials["number"] == "1", "clean_accuracy"] = "0.5"
    trials.to_csv(run / "trials.csv", index=False)


def disturb_mlflow(run: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    ids = {run.data.tags.get("robustfront.number"): run.info.run_id for run in runs}
    client.delete_run(ids["B0"])
    client.update_run(ids["0"], "RUNNING")
    client.log_metric(ids["1"], "train_loss", 1.0, step=2)
    client.log_metric(ids["2"], "robust_accuracy", 0.99, step=2)


@pytest.mark.parametrize(
    ("disturb", "differences"),
    [
        (drop_a_row, ["trials.csv lacks trial 1", "trials.csv has trial B1 more than once"]),
        (change_a_number, ["trials.csv, trial 1: clean_accuracy differ"]),
        (
            disturb_mlflow,
            [
                "MLflow lacks trial B0",
                "MLflow, trial 0: status RUNNING for a trial that is complete",
                "MLflow, trial 1: epochs 2 are recorded more than once",
                "MLflow, trial 2: robust_accuracy differs",
            ],
        ),
    ],
)
def test_status_notices_whatever_disagrees(
    disturb: Callable[[Path], None], differences: list[str], finished: Finished, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder / "runs", tmp_path / "runs")
    disturb(tmp_path / "runs" / "quickstart")
    assert sorted(read_status("quickstart", tmp_path / "runs", reconciled=True).to_json()["differences"]) == sorted(
        differences
    )


def test_an_exported_setting_trained_again_gives_the_same_numbers(finished: Finished) -> None:
    best = json.loads(robustfront(finished.folder, "pareto", "quickstart", "--format", "json").stdout)[0]
    params = [word for name, value in best["params"].items() for word in ("--param", f"{name}={value!r}")]
    again = robustfront(finished.folder, "train", "runs/quickstart/sweep.yaml", *params, "--output", "again")
    assert again.returncode == 0, again.stderr
    result = json.loads((finished.folder / "again" / "result.json").read_text())
    scores = result["units"][0]["scores"]
    assert scores["clean_accuracy"]["value"] == best["clean_accuracy"]
    assert scores["robust_accuracy"]["value"] == best["robust_accuracy"]


@pytest.mark.parametrize("style", ["table", "yaml", "csv"])
def test_pareto_prints_and_writes_every_form(style: str, finished: Finished) -> None:
    printed = robustfront(finished.folder, "pareto", "quickstart", "--format", style)
    assert printed.returncode == 0
    file = finished.folder / f"front.{style}"
    robustfront(finished.folder, "pareto", "quickstart", "--format", style, "--output", str(file))
    assert file.read_text().split() == printed.stdout.split()


def test_resuming_a_complete_run_trains_nothing(finished: Finished) -> None:
    before = finished.trials
    done = robustfront(finished.folder, "resume", "quickstart")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(finished.trials, before)
    assert "starting Ray" not in done.stdout


def test_three_objectives_and_a_constraint_from_configuration_to_pictures(tmp_path: Path) -> None:
    settings = (
        "objectives={clean_accuracy: maximize, pgd3-dlr/worst: maximize, validation_loss: minimize}",
        "constraints={robust_accuracy: '<= 0.0'}",  # of so little training, some have none
        "search.sampler=nsga2",
    )
    done = robustfront(tmp_path, "sweep", str(QUICKSTART), settings=(*SMALL, *settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validation loss" in done.stdout
    trials = read_frame(tmp_path / "runs" / "quickstart").set_index("number")
    assert (trials["feasible"] == (trials["robust_accuracy"] == 0)).all()
    np.testing.assert_allclose(trials["violation"], trials["robust_accuracy"])
    search = trials[trials["kind"] == "search"]
    front = json.loads(robustfront(tmp_path, "pareto", "quickstart", "--format", "json").stdout)
    assert all(entry["feasible"] for entry in front) == search["feasible"].any()
    for entry in front:
        row = trials.loc[str(entry["number"])]
        for name in ("clean_accuracy", "pgd3-dlr/worst", "validation_loss"):
            assert entry[name] == row[name]
    status = json.loads(robustfront(tmp_path, "status", "quickstart", "--json").stdout)
    assert status["infeasible"] == (~search["feasible"]).sum()
    assert status["reference"]["validation_loss"]["point"] == 2 * trials.loc[["B0", "B1"], "validation_loss"].max()
    names = {path.name for path in (tmp_path / "runs" / "quickstart" / "figures").iterdir()}
    assert {
        "pareto.png",
        "surface-validation_loss.png",
        "surface-robust_accuracy.png",
    } <= names

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id], filter_string="tags.`robustfront.feasible` != ''"):
        row = trials.loc[run.data.tags["robustfront.number"]]
        assert run.data.tags["robustfront.feasible"] == str(row["feasible"]).lower()
        losses = client.get_metric_history(run.info.run_id, "validation_loss")
        assert [loss.step for loss in losses] == [1, 2]
        assert losses[-1].value == row["validation_loss"]


@pytest.mark.slow
def test_a_second_sweep_takes_over_what_the_first_has_found(finished: Finished) -> None:
    words = ("sweep", str(QUICKSTART), "--name", "second")
    done = robustfront(finished.folder, *words, settings=(*SMALL, "search.warm_start=[quickstart]", "search.trials=1"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 trials imported from quickstart\n" in done.stdout
    folder = finished.folder / "runs" / "second"
    trials = read_frame(folder).set_index("number")
    assert sorted(trials.index) == ["0", "1", "2", "3", "B0", "B1"]
    assert trials["origin"].dropna().tolist() == ["quickstart/0", "quickstart/1", "quickstart/2"]
    before = finished.trials.set_index("number")
    measured = ["s", "m", "clean_accuracy", "robust_accuracy", "epochs", "seeds", "finished"]
    pd.testing.assert_frame_equal(trials.loc[["0", "1", "2"], measured], before.loc[["0", "1", "2"], measured])
    assert (folder / trials.loc["1", "outcomes"]).is_file()
    status = json.loads(robustfront(finished.folder, "status", "second", "--json").stdout)
    assert (status["state"], status["imported"], status["trials"]["complete"]) == ("complete", 3, 1)
    assert status["differences"] == []  # of ledger, trials.csv and MLflow

    third = (*SMALL, "search.warm_start=[quickstart]", "train.epochs=3")
    other = robustfront(finished.folder, "sweep", str(QUICKSTART), "--name", "third", settings=third)
    assert other.returncode == 2
    assert "search.warm_start[0] must be a run of the same problem, got quickstart with train.epochs 2" in other.stderr
    assert not (finished.folder / "runs" / "third").exists()
