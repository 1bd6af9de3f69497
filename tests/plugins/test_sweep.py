"""A sweep over a user's own loss, model, data set and attack: killed half-way, resumed, audited and exported."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.frames import read_frame
from search.config import load
from search.runs.provenance import import_paths, user_modules
from trainables.training.checkpoint import read

HERE = Path(__file__).parent
TRIALS = 10
PATIENCE = 300  # seconds; a shared machine may be slow


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from search.cli.main import main; main()", *words]


def robustfront(folder: Path, *words: str) -> str:
    done = subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "PYTHONPATH")}


def status(folder: Path) -> dict[str, Any] | None:
    words = command("status", "glyphs", "--json")
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout with the user's package and configuration, where a sweep was killed and resumed."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(HERE / "glyphs", folder / "glyphs")
    shutil.copy(HERE / "glyphs.yaml", folder)
    driver = subprocess.Popen(
        command("sweep", "glyphs.yaml", "--set", "train.epochs=20", "--set", f"search.trials={TRIALS}"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < deadline, "no trial finished in time"
            assert driver.poll() is None, "the sweep ended before it could be killed"
            before = status(folder)
            if before is not None and before["trials"]["complete"] >= 1:
                break
            time.sleep(0.2)
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    interrupted = status(folder)
    assert interrupted is not None
    assert interrupted["state"] == "interrupted"
    robustfront(folder, "resume", "glyphs")
    return folder


def test_every_trial_is_recorded_once(folder: Path) -> None:
    after = status(folder)
    assert after is not None
    assert (after["state"], after["trials"]["complete"], after["differences"]) == ("complete", TRIALS, [])
    trials = read_frame(folder / "runs" / "glyphs").set_index("number")
    own = trials[trials["kind"] == "search"]
    assert sorted(own.index, key=int) == [str(number) for number in range(TRIALS)]
    assert (own["pull"].between(0.0, 0.5)).all()
    assert (own["train.learning_rate"].between(0.003, 0.03)).all()
    assert set(own["model.width"]) <= {4, 8}
    assert own["random_directions-draws=4/worst"].between(0, 1).all()
    assert (trials["loss"] == "glyphs.losses:PrototypeLoss").sum() == TRIALS


def test_every_setting_on_the_front_has_a_baseline_with_its_values(folder: Path) -> None:
    trials = read_frame(folder / "runs" / "glyphs").set_index("number")
    front = json.loads(robustfront(folder, "pareto", "glyphs", "--format", "json"))
    assert front
    baselines = trials[trials["kind"] == "baseline"]
    for entry in front:
        others = {name: value for name, value in entry["params"].items() if name != "pull"}
        same = (baselines[list(others)] == list(others.values())).all(axis=1)
        assert same.sum() == 1, f"no baseline for {entry['params']}"


def test_the_parameters_of_the_loss_are_trained_and_saved(folder: Path) -> None:
    newest = sorted((folder / "runs" / "glyphs" / "checkpoints" / "0").glob("epoch-*.pt"))[-1]
    candidate, (state,) = read(newest)
    assert candidate is not None
    assert candidate.loss == "glyphs.losses:PrototypeLoss"
    prototypes = state["loss"]["prototypes"]
    assert prototypes.shape == (3, 16)
    assert len(state["optimizer"]["state"]) > len(state["model"]), "the optimizer must have the prototypes too"
    assert torch.isfinite(prototypes).all()


def test_it_is_audited_and_exported(folder: Path) -> None:
    front = json.loads(robustfront(folder, "pareto", "glyphs", "--format", "json"))
    number = str(front[0]["number"])
    robustfront(folder, "audit", f"glyphs/{number}")
    audit = json.loads((folder / "runs" / "glyphs" / "audits" / number / "audit.json").read_text())
    assert audit["verified"]["accuracy"] <= front[0]["robust_accuracy"] + 0.1
    assert audit["replicates"][0]["claim"]["name"] == "robust_accuracy"
    params = [word for name, value in front[0]["params"].items() for word in ("--param", f"{name}={value}")]
    robustfront(folder, "train", "runs/glyphs/sweep.yaml", *params, "--output", "again")
    result = json.loads((folder / "again" / "result.json").read_text())
    assert result["units"][0]["scores"]["robust_accuracy"]["value"] == front[0]["robust_accuracy"]
    commands = (folder / "runs" / "glyphs" / "pareto.yaml").read_text()
    assert str(folder) not in commands


def test_only_user_code_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    paths = import_paths(load(HERE / "glyphs.yaml").to_document())
    assert {path.partition(":")[0] for path in paths} == {
        "glyphs.attacks",
        "glyphs.data",
        "glyphs.losses",
        "glyphs.models",
    }
    modules = user_modules([*paths, "torchvision.models:resnet18", "json:loads"])
    assert list(modules) == ["glyphs"]
