"""A comparison of methods: the inputs it refuses, and a small real one that is interrupted and resumed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from search.cli.main import run
from search.cli.status import read_status
from search.errors import DONE, INTERRUPTED, WRONG_INPUT, UserError
from search.sweep.compare import RADII, read_methods

METHODS = Path(__file__).parents[3] / "configs" / "methods"
TWO = [METHODS / "cross-entropy.yaml", METHODS / "adversarial-training.yaml"]
SMALL = (
    "train.epochs=2",
    "train.replicates=2",
    "data.train_size=300",
    "data.validation_size=60",
    "robustness.attacks=[{name: pgd, steps: 3}, {name: pgd, loss: dlr, steps: 3}]",
    "robustness.images=20",
    "audit=null",
)
PATIENCE = 240  # seconds; a shared machine may be slow


def words(*paths: Path, settings: tuple[str, ...] = SMALL) -> list[str]:
    overrides = [word for setting in settings for word in ("--set", setting)]
    return ["compare", *map(str, paths), "--profile", "quick", "--name", "two", *overrides]


def changed(folder: Path, text: str, name: str = "other") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(f"base: {METHODS / 'i-sce.yaml'}\nname: {name}\n{text}", encoding="utf-8")
    return path


def test_every_method_is_comparable_and_has_its_reference_setting_alone() -> None:
    methods = read_methods(sorted(METHODS.glob("*.yaml")), "quick", [], "all")
    assert len(methods) == 10
    for method in methods:
        config = method.config
        assert config.name == f"all-{method.name}"
        assert (config.budget, config.train.replicates, config.baselines) == (5, 5, ())
        assert config.robustness.epsilons == pytest.approx([1.5 * factor for factor in RADII])
        assert config.tracking.parent == "all"
    full = read_methods(sorted(METHODS.glob("*.yaml")), "full", [], "all")
    assert {method.config.budget for method in full} == {24}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "train: {epochs: 7}",
            r"^train.epochs must be the same for all methods, got 6 in .* and 7 in .*--set train.ep",
        ),
        ("data: {seed: 3}", r"^data.seed must be the same for all methods, got 0 in .* and 3 in "),
        ("robustness: {images: 300}", r"^robustness.images must be the same for all methods, got 200 in .* and 300"),
        ("search: {trials: 30}", r"^search.trials must be the same for all methods, got 24 in .* and 30 in "),
    ],
)
def test_other_data_evaluation_or_budgets_are_refused_by_their_key(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=line):
        read_methods([TWO[0], changed(tmp_path, text)], "full", [], "two")


def test_a_method_is_compared_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^name must differ between the configurations, got i-sce twice"):
        read_methods([METHODS / "i-sce.yaml", changed(tmp_path, "", "i-sce")], "quick", [], "two")


def test_a_space_without_the_reference_setting_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "space: {s: {low: 1.5, high: 2.0}}")
    with pytest.raises(UserError, match=r"^space must contain the reference setting of other for --profile quick"):
        read_methods([path], "quick", [], "two")


def test_a_method_that_cannot_handle_the_data_says_so_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "narrow.yaml"
    path.write_text(f"base: {METHODS / 'mmc.yaml'}\nname: narrow\nloss: {{width: 8}}\n", encoding="utf-8")
    assert run([*words(TWO[0], path), "--runs-dir", str(tmp_path / "runs")]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert error == "robustfront: narrow: loss.width must be at least 9 for 10 classes, got 8; raise it\n"
    assert not (tmp_path / "runs").exists()


def compare(folder: Path, *more: str) -> subprocess.Popen[str]:
    code = "from search.cli.main import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    arguments = [sys.executable, "-c", code, *words(*TWO), *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def begun(folder: Path) -> bool:
    try:
        return read_status("two-cross-entropy", folder / "runs").standing.finished > 0
    except UserError:
        return False


@pytest.mark.slow
def test_a_comparison_is_interrupted_and_resumed_but_not_with_other_settings(tmp_path: Path) -> None:
    first = compare(tmp_path)
    deadline = time.monotonic() + PATIENCE
    while not begun(tmp_path) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, error = first.communicate(timeout=PATIENCE)
    assert first.returncode == INTERRUPTED, error
    assert re.search(
        r"interrupted; everything is kept; continue with `(?:uv run )?robustfront compare .*--name two", error
    )

    second = compare(tmp_path)
    output, error = second.communicate(timeout=PATIENCE)
    assert second.returncode == DONE, error
    board = json.loads((tmp_path / "runs/two/leaderboard.json").read_text())
    assert {row["method"] for row in board["rows"]} == {"cross-entropy", "adversarial-training"}
    assert all(row["seeds"] == 2 for row in board["rows"])
    (adversarial,) = [row for row in board["rows"] if row["method"] == "adversarial-training"]
    assert 1 <= adversarial["best_epoch"]["best_epoch"] <= 2
    assert {each["units"] for each in board["methods"]} == {2}
    assert "not audited" in output

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs/mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    runs = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    top = runs["two"].info.run_id
    for name in ("two-cross-entropy", "two-adversarial-training"):
        assert runs[name].data.tags["mlflow.parentRunId"] == top
    assert "mlflow.parentRunId" not in runs["two"].data.tags

    third = compare(tmp_path)
    output, error = third.communicate(timeout=PATIENCE)
    assert third.returncode == DONE, error
    assert "starting" not in output
    other = compare(tmp_path, "--set", "train.epochs=3")
    _, error = other.communicate(timeout=PATIENCE)
    assert other.returncode == WRONG_INPUT
    assert error.startswith("robustfront: train.epochs must be 2 as in the existing sweep two-cross-entropy, got 3")
    assert len(error.splitlines()) == 1
