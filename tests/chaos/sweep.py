"""A real small sweep that dies and is resumed, and the checks at its end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import psutil

from search.cli.status import read_status
from search.errors import UserError
from search.study import open_storage
from tests.search.sweep.test_driver import PATIENCE, QUICKSTART, arguments, environment

REPOSITORY = Path(__file__).parents[2]
SETTINGS = (
    "train.epochs=4",
    "data.train_size=1500",
    "data.validation_size=100",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
    "search.concurrency=1",
    "audit=null",
)
BASELINES = 2
# Ray's own agents take up to a minute to notice that their raylet is gone; they touch nothing of ours.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


class Sweep:
    """A sweep that dies and is resumed; all its processes have its folder as their working directory.

    Args:
        folder: Folder of the sweep.
        trials: Settings to finish.
        tracking_uri: MLflow's tracking URI; by default a SQLite file in the folder of the runs.
    """

    def __init__(self, folder: Path, *, trials: int = 8, tracking_uri: str | None = None) -> None:
        self.folder, self.budget = folder, trials
        self.tracking_uri = tracking_uri or f"sqlite:///{folder / 'runs' / 'mlflow.db'}"
        self._settings = [*SETTINGS, f"search.trials={trials}"]
        if tracking_uri is not None:
            self._settings.append(f"tracking.uri={tracking_uri}")

    @property
    def command(self) -> list[str]:
        """The command that starts or resumes it."""
        if (self.folder / "runs" / "quickstart" / "sweep.yaml").exists():
            return ["resume", "quickstart"]
        return ["sweep", str(QUICKSTART), *(word for setting in self._settings for word in ("--set", setting))]

    def start(self, prefix: list[str]) -> subprocess.Popen[str]:
        """Starts a driver in its own process group."""
        paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(
                [*prefix, *self.command],
                cwd=self.folder,
                env={**environment(), "PYTHONPATH": paths},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def processes(self) -> Iterator[tuple[psutil.Process, str]]:
        """Its living processes, each with its command."""
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    yield process, " ".join(process.cmdline()).strip() or process.name()  # Ray pads its titles
            except psutil.Error:
                continue

    @contextmanager
    def workers_suspended(self) -> Iterator[None]:
        """Suspends the workers, so that no epoch ends; the driver keeps running."""
        workers = [
            process for process, command in self.processes() if command.startswith("ray::") and command not in AGENTS
        ]
        for worker in workers:
            worker.suspend()
        try:
            yield
        finally:
            for worker in workers:
                with suppress(psutil.NoSuchProcess):  # it may have died with its driver
                    worker.resume()

    def wait_until_all_exit(self, ignoring: Sequence[str] = ()) -> None:
        """Waits until no process is left: a dead driver's Ray must end too."""
        deadline = time.monotonic() + PATIENCE
        while left := [command for _, command in self.processes() if command not in ignoring]:
            assert time.monotonic() < deadline, f"still running: {left}"
            time.sleep(0.2)

    def progress(self) -> tuple[int, int]:
        """Number of finished trials, and epochs of the running ones."""
        try:
            values = read_status("quickstart", self.folder / "runs").to_json()
        except UserError:  # not started yet
            return 0, 0
        finished = values["trials"]["complete"] + values["baselines"]["complete"]
        return finished, sum(trial["epoch"] for trial in values["running"])

    def wait_for_progress(self, driver: subprocess.Popen[str]) -> None:
        """Waits until another epoch or trial is done, or the driver has ended."""
        before = self.progress()
        while driver.poll() is None and self.progress() == before:
            time.sleep(0.3)

    def finish(self) -> None:
        """Runs the sweep to its end without a kill."""
        driver = self.start(arguments())
        assert driver.wait(timeout=PATIENCE) == 0, (self.folder / "output.txt").read_text()
        self.wait_until_all_exit()

    def trials(self) -> set[tuple[Any, ...]]:
        """(number, s, m, objectives) of all trials of the search, and of the baselines."""
        rows = set()
        storage = open_storage(f"sqlite:///{self.folder / 'runs' / 'quickstart' / 'study.db'}", create=False)
        for name in ("quickstart", "quickstart-baselines"):
            for trial in optuna.load_study(study_name=name, storage=storage).trials:
                assert trial.state == optuna.trial.TrialState.COMPLETE, trial
                rows.add((name, trial.number, *sorted(trial.params.items()), *trial.values))
        return rows

    def check(self) -> None:
        """Checks everything that must hold at the end, whatever happened before."""
        rows = self.trials()
        assert len(rows) == self.budget + BASELINES
        status = subprocess.run(
            arguments("status", "quickstart", "--json"), cwd=self.folder, capture_output=True, check=True, text=True
        )
        values = json.loads(status.stdout)
        assert values["differences"] == []  # ledger, trials.csv and MLflow, row by row; no duplicate child or step
        assert values["state"] == "complete"
        counts = {"complete": self.budget, "pruned": 0, "failed": 0, "running": 0, "budget": self.budget}
        assert values["trials"] == counts

        from mlflow import MlflowClient

        client = MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name("robustfront")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == self.budget + BASELINES + 1
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            for name in run.data.metrics:
                steps = Counter(point.step for point in client.get_metric_history(run.info.run_id, name))
                assert max(steps.values()) == 1, (run.info.run_name, name, steps)
            if "robustfront.number" not in run.data.tags:
                points = client.get_metric_history(run.info.run_id, "hypervolume")
                assert [point.step for point in points] == list(range(1, self.budget + BASELINES + 1))
