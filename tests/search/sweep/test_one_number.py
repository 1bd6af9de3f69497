"""One number, one path: MLflow, the progress panel, ``status`` and the results say the same of a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from rich.console import Console

from search.cli.status import read_status
from search.results.final import settings_of
from search.results.writing import Results, write_results
from search.runs.folder import Run
from search.runs.layout import ARTIFACTS
from search.study import Ledger, open_storage
from search.sweep.observers import MLflowObserver, Progress
from search.tracking.mirror import ParentInfo
from search.tracking.queue import Tracker
from tests.search.examples import result, small_config

DATA = {"name": "mnist5k", "sha256": "0" * 64, "location": "here", "sizes": {"train": 300}}


def audit(accuracy: float) -> dict[str, Any]:
    return {"verdict": "sound", "profile": "quick", "images": 20, "accuracy": accuracy}


def robust(number: str, extends: str | None) -> float:
    """0 claims 0.5 with either seed; 1 claims 0.4 and 0.3; the baselines claim 0.2."""
    if number.startswith("B") or (extends or "").startswith("B"):
        return 0.2
    return {"0": 0.5, "1": 0.4}[extends or number] - (0.1 if extends == "1" else 0.0)


def driven(folder: Path, audits: dict[str, float]) -> tuple[Run, Progress, Results]:
    """A sweep of two settings with two seeds each, driven as a driver does it, but for Ray; then some audits.

    Args:
        folder: The runs' folder.
        audits: By unit's number, the accuracy that holds.
    """
    config = small_config(train={"replicates": 2}, search={"trials": 4, "sampler": "random"})
    run = Run.plan(config, folder)
    run.create(DATA)
    ledger = Ledger(open_storage(run.storage_url), config, "new")
    ledger.adopt()
    tracker = Tracker(
        run.tracking_uri, config.tracking.experiment, run.name, artifact_root=run.folder.parent / ARTIFACTS
    )
    info = ParentInfo(
        identity=run.manifest()["id"],
        run_dir=run.folder,
        config=config.to_yaml(),
        searched=tuple(config.domains),
        objectives=tuple(config.objectives),
    )
    tracker.start(info)
    progress, mirror = Progress(config, Console(quiet=True), quiet=True), MLflowObserver(ledger, tracker, config)
    progress.begin(ledger.records(), ledger.extensions, lambda: ledger.reference)
    while (unit := ledger.ask()) is not None:
        for observer in (progress, mirror):
            observer.started(ledger.record(unit.number))
        value = robust(unit.number, ledger.record(unit.number).extends)
        ledger.finish(unit.number, result(0.95, value, seed=unit.seed))
        for observer in (progress, mirror):
            observer.ended(ledger.record(unit.number))
    assert ledger.complete
    for number, accuracy in audits.items():
        ledger.audited(number, audit(accuracy))
        for observer in (progress, mirror):
            observer.audited(ledger.record(number))
    results = write_results(run, ledger.records(), ledger.history, ledger.reference)
    mirror.results(results)
    assert tracker.close("FINISHED") is None
    ledger.close()
    return run, progress, results


def shown_by_mlflow(run: Run) -> dict[str | None, Any]:
    """The runs in MLflow by the trial's number; None is the sweep's own."""
    client = MlflowClient(run.tracking_uri)
    experiment = client.get_experiment_by_name(run.config.tracking.experiment)
    assert experiment is not None
    return {each.data.tags.get("robustfront.number"): each for each in client.search_runs([experiment.experiment_id])}


@pytest.mark.parametrize(
    ("audits", "best", "is_audited"),
    [
        ({}, 0.5, False),
        ({"0": 0.3}, 0.5, False),  # the other seed is not audited: the setting stays a claim
        ({"0": 0.3, "R2": 0.3}, 0.35, False),  # 0 holds 0.3, so 1 is the best, by its claim
        ({"0": 0.48, "R2": 0.46}, 0.47, True),
    ],
    ids=["claims", "one of two seeds audited", "another becomes the best", "audited"],
)
def test_all_of_them_show_the_same_number(
    audits: dict[str, float], best: float, is_audited: bool, tmp_path: Path
) -> None:
    run, progress, results = driven(tmp_path / "runs", audits)
    numbers = {record.number: record.extends for record in results.settings}
    assert list(numbers) == ["B0", "B1", "0", "1"]

    status = read_status("small", tmp_path / "runs", reconciled=True).to_json()
    assert status["differences"] == []
    tracked = shown_by_mlflow(run)
    last = tracked[None].data.metrics
    shown = {
        "results": (
            results.standing.best["robust_accuracy"].objectives["robust_accuracy"],
            results.standing.hypervolume,
        ),
        "panel": (
            progress.standing.best["robust_accuracy"].objectives["robust_accuracy"],
            progress.standing.hypervolume,
        ),
        "status": (status["best"]["robust_accuracy"]["value"], status["hypervolume"]),
        "mlflow": (last["best_robust_accuracy"], last["hypervolume"]),
    }
    assert {name: value for name, (value, _) in shown.items()} == dict.fromkeys(shown, pytest.approx(best))
    volumes = {name: volume for name, (_, volume) in shown.items()}
    assert volumes == dict.fromkeys(shown, pytest.approx(volumes["results"]))
    assert volumes["results"] > 0

    (top,) = [
        setting for setting in results.settings if setting.objectives.get("robust_accuracy") == pytest.approx(best)
    ]
    assert (top.verdict is not None) == is_audited
    assert len(top.replicates) == 2

    for setting in results.settings:
        data, robust = tracked[setting.number].data, setting.objectives["robust_accuracy"]
        claimed = setting.accuracies.get("claimed_accuracy", robust)
        assert (data.metrics["clean"], data.metrics["robust"]) == pytest.approx((0.95, claimed))
        assert data.metrics.get("verified") == (pytest.approx(robust) if setting.verdict else None)
        assert (data.tags["verdict"], data.tags["seeds"]) == (setting.verdict or "claimed", "2")
    on_front = {number for number, each in tracked.items() if each.data.tags.get("robustfront.front") == "true"}
    assert on_front == {setting.number for setting in results.front}


def test_the_sweeps_run_has_the_summary_the_files_and_the_front(tmp_path: Path) -> None:
    run, _, results = driven(tmp_path / "runs", {"0": 0.48, "R2": 0.46})
    sweep = shown_by_mlflow(run)[None]
    description = sweep.data.tags["mlflow.note.content"]
    assert results.answered is not None
    assert results.answered.answer.sentence in description
    (row,) = [line for line in description.splitlines() if line.startswith("| trial 0 |")]
    assert "47.0 % (" in row
    assert row.endswith("| 50.0 %, sound |")
    mlflow.set_tracking_uri(run.tracking_uri)
    client = MlflowClient()
    table = client.load_table(sweep.info.experiment_id, "front.json")
    assert table["number"].tolist() == [int(setting.number) for setting in results.front]
    robust = [setting.objectives["robust_accuracy"] for setting in results.front]
    assert table["robust_accuracy"].tolist() == pytest.approx(robust)
    files = {item.path for folder in (None, "figures") for item in client.list_artifacts(sweep.info.run_id, folder)}
    assert {str(path.relative_to(run.folder)) for path in results.files} <= files


def test_an_unaudited_seed_keeps_the_setting_a_claim(tmp_path: Path) -> None:
    run, _, results = driven(tmp_path / "runs", {"0": 0.3})
    (setting,) = [setting for setting in results.settings if setting.number == "0"]
    assert setting.objectives["robust_accuracy"] == pytest.approx(0.5)
    assert setting.verdict is None
    assert settings_of([setting], run.config.bounds)[0] == setting
