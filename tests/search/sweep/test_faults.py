"""What goes wrong for real: each fault is provoked, said in one line, and costs nothing but itself."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from analysis.frames import read_frame
from search.config import load
from search.results.metrics import unit_results
from tests.search.faulty import BROKEN_CHECKPOINT, EXCEPTION, NAN, OUT_OF_MEMORY
from tests.search.sweep.test_driver import PATIENCE, QUICKSTART, SMALL, arguments, environment, robustfront, wait_for
from trainables.candidate import Candidate
from trainables.metrics import CLEAN, ROBUST
from trainables.trial import CandidateResult, run_candidate

REPOSITORY = Path(__file__).parents[3]


def status(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(robustfront(folder, "status", "quickstart", "--json").stdout)
    return values


def test_a_trial_that_fails_says_why_and_is_replaced(tmp_path: Path) -> None:
    settings = (*SMALL, "train.epochs=3", "data.train_size=1000", "search.trials=6")
    words = [word for setting in settings for word in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.search.faulty", "sweep", str(QUICKSTART), *words],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "3 failed and were replaced" in done.stdout
    run = tmp_path / "runs" / "quickstart"
    trials = read_frame(run).set_index("number")
    failures = trials["failure"].dropna()
    assert set(failures.index) == {OUT_OF_MEMORY, EXCEPTION, NAN}
    assert "memory" in failures[OUT_OF_MEMORY]
    assert "IsADirectoryError" in failures[EXCEPTION]
    assert failures[NAN].startswith("the training loss became nan in epoch 1")
    assert {path.name for path in (run / "failures").iterdir()} == {f"{number}.txt" for number in failures.index}
    assert (trials["state"] == "complete").sum() == 6 + 2
    values = status(tmp_path)
    assert values["differences"] == []
    assert values["trials"] == {"complete": 6, "pruned": 0, "failed": 3, "running": 0, "budget": 6}

    # The one whose newest checkpoint broke went on from the one before, to the same end.
    config = load(run / "sweep.yaml")
    row = trials.loc[BROKEN_CHECKPOINT]
    *_, alone = run_candidate(config.problem, Candidate("i-sce", {"s": row["s"], "m": row["m"]}))
    assert isinstance(alone, CandidateResult)
    (unit,) = unit_results(alone, [0])
    assert (row[CLEAN], row[ROBUST]) == (unit.values[CLEAN], unit.values[ROBUST])


def test_too_many_failures_end_the_sweep_with_their_reason(tmp_path: Path) -> None:
    settings = (*SMALL, "train.learning_rate=1e30", "resources.max_failures=1")
    done = robustfront(tmp_path, "sweep", str(QUICKSTART), settings=settings)
    assert done.returncode == 1
    assert "resources.max_failures is 1" in done.stderr
    assert "robustfront resume quickstart" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    failures = read_frame(tmp_path / "runs" / "quickstart")["failure"].dropna()
    assert failures.str.contains("loss became nan").all()
    assert status(tmp_path)["state"] == "failed"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk (root)")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(ballast: Path) -> None:
    """Writes until the disk is full."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\0" * 65536)


@pytest.mark.slow
def test_a_full_disk_stops_the_sweep_and_loses_nothing(small_disk: Path) -> None:
    process = subprocess.Popen(
        arguments("sweep", str(QUICKSTART), settings=(*SMALL, "train.epochs=20", "search.trials=6")),
        cwd=small_disk,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ballast = small_disk / "ballast"
    try:
        wait_for(small_disk, lambda values: values["trials"]["complete"] >= 1)
        fill(ballast)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    lines = errors.strip().splitlines()
    assert len(lines) <= 2  # what MLflow missed may be said too
    assert "the sweep stopped" in lines[-1]
    assert "robustfront resume quickstart" in lines[-1]
    ballast.unlink()
    done = robustfront(small_disk, "resume", "quickstart")
    assert done.returncode == 0, done.stderr
    values = status(small_disk)
    assert values["differences"] == []
    assert values["trials"] == {"complete": 6, "pruned": 0, "failed": 0, "running": 0, "budget": 6}


def started(folder: Path) -> subprocess.Popen[str]:
    """A sweep at work."""
    process = subprocess.Popen(
        arguments("sweep", str(QUICKSTART), settings=(*SMALL, "train.epochs=20", "search.trials=6")),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(folder, lambda values: values["trials"]["complete"] >= 1)
    return process


@pytest.mark.slow
def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    process = started(tmp_path)
    lock = sqlite3.connect(tmp_path / "runs" / "quickstart" / "study.db", timeout=60, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    time.sleep(10)
    lock.execute("ROLLBACK")
    lock.close()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert status(tmp_path)["differences"] == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["locked", "vanished"])
def test_a_database_that_does_not_come_back_stops_the_sweep_cleanly(fault: str, tmp_path: Path) -> None:
    process = started(tmp_path)
    database = tmp_path / "runs" / "quickstart" / "study.db"
    lock = sqlite3.connect(database, timeout=60, isolation_level=None)
    if fault == "locked":
        lock.execute("BEGIN EXCLUSIVE")
    else:
        database.rename(tmp_path / "moved.db")
    _, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 1, errors
    assert "the sweep stopped" in errors.strip().splitlines()[-1]
    if fault == "locked":
        lock.execute("ROLLBACK")
    else:
        (tmp_path / "moved.db").rename(database)
    lock.close()
    done = robustfront(tmp_path, "resume", "quickstart")
    assert done.returncode == 0, done.stderr
    values = status(tmp_path)
    assert values["differences"] == []
    assert values["trials"]["complete"] == 6
