"""A real sweep is killed again and again, and in the end nothing is lost, doubled or left hanging.

    uv run pytest -m slow tests/chaos

Once at every transition of the ledger (``driver.PHASES``), once at seeded random instants: the driver, a worker, the
raylet, or the whole process group. Every sweep has one trial at a time, so that it must end with the numbers, settings
and objectives of one that was left alone.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from search.errors import UserError
from search.ledger import open_storage
from search.status import read_status
from tests.chaos.driver import PHASES
from tests.search.test_sweep import PATIENCE, QUICKSTART, arguments, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

REPOSITORY = Path(__file__).parents[2]
SETTINGS = (
    "train.epochs=4",
    "data.train_size=1500",
    "data.validation_size=100",
    "robustness.attacks=[{name: pgd, steps: 10}]",
    "robustness.images=60",
    "search.trials=8",
    "search.concurrency=1",
)
TRIALS = 8 + 2
KILLS = 20
# Some kills come in a life's first seconds (its start), most once a trial has gone on, however long that takes here.
EARLY = 0.25
FIRST_SECONDS, WORKING_SECONDS = 20.0, 8.0


# Ray's own helpers notice that their raylet is gone within a minute; they touch nothing of ours.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


class Sweep:
    """A sweep that dies and is resumed; all processes of its lives have its folder as their working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def command(self) -> list[str]:
        """What begins it, or goes on with it."""
        if (self.folder / "runs" / "quickstart" / "sweep.yaml").exists():
            return ["resume", "quickstart"]
        return ["sweep", str(QUICKSTART), *(word for setting in SETTINGS for word in ("--set", setting))]

    def live(self, prefix: list[str]) -> subprocess.Popen[str]:
        """Starts a driver in a process group of its own."""
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
        """What lives of it, each with its command."""
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    yield process, " ".join(process.cmdline()) or process.name()
            except psutil.Error:
                continue

    def wait_until_nothing_lives(self, besides: Sequence[str] = ()) -> None:
        """A dead driver's Ray goes with it: nothing is left hanging."""
        deadline = time.monotonic() + PATIENCE
        while left := [command for _, command in self.processes() if command not in besides]:
            assert time.monotonic() < deadline, f"left over: {left}"
            time.sleep(0.2)

    def progress(self) -> tuple[int, int]:
        """Trials finished, and epochs of those that run."""
        try:
            values = read_status("quickstart", self.folder / "runs").to_json()
        except UserError:  # nothing there yet
            return 0, 0
        finished = values["trials"]["complete"] + values["baselines"]["complete"]
        return finished, sum(trial["epoch"] for trial in values["running"])

    def wait_until_it_goes_on(self, driver: subprocess.Popen[str]) -> None:
        """Until an epoch or a trial more is done, or the driver has ended."""
        before = self.progress()
        while driver.poll() is None and self.progress() == before:
            time.sleep(0.3)

    def finish(self) -> None:
        """Resumes without a kill."""
        driver = self.live(arguments())
        assert driver.wait(timeout=PATIENCE) == 0, (self.folder / "output.txt").read_text()
        self.wait_until_nothing_lives()

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
        """All that must hold at the end, whatever happened on the way."""
        rows = self.trials()
        assert len(rows) == TRIALS
        status = subprocess.run(
            arguments("status", "quickstart", "--json"), cwd=self.folder, capture_output=True, check=True, text=True
        )
        values = json.loads(status.stdout)
        assert values["differences"] == []  # ledger, trials.csv and MLflow, row by row; no doubled child or step
        assert values["state"] == "complete"
        assert values["trials"] == {"complete": 8, "pruned": 0, "failed": 0, "running": 0, "budget": 8}

        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'runs' / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("robustfront")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == TRIALS + 1
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            for name in run.data.metrics:
                steps = Counter(point.step for point in client.get_metric_history(run.info.run_id, name))
                assert max(steps.values()) == 1, (run.info.run_name, name, steps)
            if "robustfront.number" not in run.data.tags:
                points = client.get_metric_history(run.info.run_id, "hypervolume")
                assert [point.step for point in points] == list(range(1, 9))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[Any, ...]]:
    sweep = Sweep(tmp_path_factory.mktemp("undisturbed"))
    sweep.finish()
    sweep.check()
    return sweep.trials()


def test_killed_at_every_transition(tmp_path: Path, undisturbed: set[tuple[Any, ...]]) -> None:
    sweep, hit = Sweep(tmp_path), tmp_path / "hit.txt"
    for phase in PHASES:
        hit.unlink(missing_ok=True)
        driver = sweep.live([sys.executable, "-m", "tests.chaos.driver", phase, str(hit)])
        code = driver.wait(timeout=PATIENCE)
        assert code == -signal.SIGKILL, f"{phase}: {code}\n{(tmp_path / 'output.txt').read_text()}"
        assert hit.read_text() == phase
        sweep.wait_until_nothing_lives(besides=AGENTS)
        print(f"killed at: {phase}", flush=True)
    sweep.finish()
    sweep.check()
    assert sweep.trials() == undisturbed


def _target(sweep: Sweep, driver: subprocess.Popen[str], draw: random.Random) -> tuple[str, psutil.Process | None]:
    """What is killed: something that lives now."""
    named: dict[str, psutil.Process | None] = {"driver": psutil.Process(driver.pid), "process group": None}
    for process, command in sweep.processes():
        if "ray::SettingTrial" in command:
            named["worker"] = process
        elif process.name() == "raylet":
            named["raylet"] = process
    what = draw.choice(sorted(named))
    return what, named[what]


def test_killed_at_random_instants(tmp_path: Path, undisturbed: set[tuple[Any, ...]]) -> None:
    sweep, draw, killed = Sweep(tmp_path), random.Random(0), 0
    while killed < KILLS:
        driver = sweep.live(arguments())
        worker_killed = False
        while driver.poll() is None and killed < KILLS:
            if draw.random() < EARLY:
                time.sleep(draw.uniform(0, FIRST_SECONDS))
            else:
                sweep.wait_until_it_goes_on(driver)
                time.sleep(draw.uniform(0, WORKING_SECONDS))
            if driver.poll() is not None:
                break
            what, process = _target(sweep, driver, draw)
            if what == "worker" and worker_killed:  # the same trial's worker three times would make it a failure
                continue
            killed += 1
            finished, epochs = sweep.progress()
            print(f"kill {killed}: {what}, with {finished} trials finished and {epochs} epochs of the next", flush=True)
            if what == "worker":
                worker_killed = True
                process.kill()  # type: ignore[union-attr]  # the driver goes on
                continue
            if process is None:
                os.killpg(driver.pid, signal.SIGKILL)
            else:
                process.kill()
            code = driver.wait(timeout=PATIENCE)
            assert code != 0 or what == "raylet"  # which the driver may not have needed any more
            sweep.wait_until_nothing_lives(besides=AGENTS)
        if driver.poll() is None:
            assert driver.wait(timeout=PATIENCE) == 0, (tmp_path / "output.txt").read_text()
        if driver.returncode == 0 and killed < KILLS:  # it was quicker than the kills: another one
            sweep.check()
            assert sweep.trials() == undisturbed
            (tmp_path / "runs").rename(tmp_path / f"runs-after-{killed}")
    sweep.finish()
    sweep.check()
    assert sweep.trials() == undisturbed
