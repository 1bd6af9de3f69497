"""A real sweep is killed again and again, and in the end nothing is lost, duplicated or left running.

    uv run pytest -m slow tests/chaos

One test kills the driver at every transition of the ledger (``driver.PHASES``). The other kills the driver, a worker,
the raylet, or the whole process group at seeded random times. Every sweep runs one trial at a time, so it must end with
the numbers, settings and objectives of an undisturbed one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.driver import PHASES
from tests.chaos.sweep import AGENTS, Sweep
from tests.search.sweep.test_driver import PATIENCE, arguments

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

KILLS = 20
# Some kills come in a driver's first seconds (its start), most after some progress, however long that takes.
EARLY = 0.25
FIRST_SECONDS, WORKING_SECONDS = 20.0, 8.0


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
        driver = sweep.start([sys.executable, "-m", "tests.chaos.driver", phase, str(hit)])
        code = driver.wait(timeout=PATIENCE)
        assert code == -signal.SIGKILL, f"{phase}: {code}\n{(tmp_path / 'output.txt').read_text()}"
        assert hit.read_text() == phase
        sweep.wait_until_all_exit(ignoring=AGENTS)
        print(f"killed at: {phase}", flush=True)
    sweep.finish()
    sweep.check()
    assert sweep.trials() == undisturbed


def _target(sweep: Sweep, driver: subprocess.Popen[str], draw: random.Random) -> tuple[str, psutil.Process | None]:
    """Draws what to kill from the living processes."""
    targets: dict[str, psutil.Process | None] = {"driver": psutil.Process(driver.pid), "process group": None}
    for process, command in sweep.processes():
        if "ray::SettingTrial" in command:
            targets["worker"] = process
        elif process.name() == "raylet":
            targets["raylet"] = process
    name = draw.choice(sorted(targets))
    return name, targets[name]


def test_killed_at_random_times(tmp_path: Path, undisturbed: set[tuple[Any, ...]]) -> None:
    sweep, draw, killed = Sweep(tmp_path), random.Random(0), 0
    while killed < KILLS:
        driver = sweep.start(arguments())
        worker_killed = False
        while driver.poll() is None and killed < KILLS:
            if draw.random() < EARLY:
                time.sleep(draw.uniform(0, FIRST_SECONDS))
            else:
                sweep.wait_for_progress(driver)
                time.sleep(draw.uniform(0, WORKING_SECONDS))
            if driver.poll() is not None:
                break
            target, process = _target(sweep, driver, draw)
            if target == "worker" and worker_killed:  # a trial whose worker is killed three times fails
                continue
            finished, epochs = sweep.progress()
            try:
                if process is None:
                    os.killpg(driver.pid, signal.SIGKILL)
                else:
                    process.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):  # it has ended in the meantime
                continue
            killed += 1
            print(
                f"kill {killed}: {target}, with {finished} trials finished and {epochs} epochs of the next", flush=True
            )
            if target == "worker":  # the driver continues
                worker_killed = True
                continue
            code = driver.wait(timeout=PATIENCE)
            assert code != 0 or target == "raylet"  # the driver may no longer have needed it
            sweep.wait_until_all_exit(ignoring=AGENTS)
        if driver.poll() is None:
            assert driver.wait(timeout=PATIENCE) == 0, (tmp_path / "output.txt").read_text()
        if driver.returncode == 0 and killed < KILLS:  # it ended before all kills: start another
            sweep.check()
            assert sweep.trials() == undisturbed
            (tmp_path / "runs").rename(tmp_path / f"runs-after-{killed}")
    sweep.finish()
    sweep.check()
    assert sweep.trials() == undisturbed
