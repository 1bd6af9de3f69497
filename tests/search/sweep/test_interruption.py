"""Real sweeps that are interrupted, or whose settings are stopped early, and what becomes of them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.frames import read_frame
from search.cli.status import read_status
from search.errors import Interrupted, UserError
from search.results.metrics import rung_objectives
from search.runs.folder import Run
from search.study import Halving, Lease, open_ledger, open_storage
from search.sweep import driver
from search.sweep.signals import handled_signals
from search.sweep.tune import rebuilt
from tests.search.examples import small_config
from tests.search.sweep.test_driver import PATIENCE, QUICKSTART, SMALL, arguments, environment, robustfront, wait_for


def test_interrupted_twice_and_resumed_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    # Trials of some seconds, so that a signal meets them at work.
    slower = ("train.epochs=10", "data.train_size=2000", "search.trials=5")
    settings = (*SMALL, *slower)

    def interrupted(number: signal.Signals, *words: str, after: Callable[[dict[str, Any]], bool]) -> None:
        command = arguments(*words, settings=settings if words[0] == "sweep" else ())
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            wait_for(tmp_path, after)
            storage = open_storage(f"sqlite:///{tmp_path / 'runs' / 'quickstart' / 'study.db'}", create=False)
            with pytest.raises(UserError, match="one driver at a time"):
                Lease(storage.engine, "quickstart")
            process.send_signal(number)
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 130, output
        assert "robustfront resume quickstart" in output

    interrupted(signal.SIGINT, "sweep", str(QUICKSTART), after=lambda status: status["baselines"]["complete"] >= 1)
    status = wait_for(tmp_path, lambda status: status["state"] == "interrupted")
    assert status["trials"]["complete"] < 5
    assert (tmp_path / "runs" / "quickstart" / "trials.csv").exists()
    interrupted(signal.SIGTERM, "resume", "quickstart", after=lambda status: status["trials"]["complete"] >= 1)
    assert wait_for(tmp_path, lambda status: status["state"] == "interrupted")["trials"]["complete"] < 5

    done = robustfront(tmp_path, "resume", "quickstart")
    assert done.returncode == 0, done.stderr
    trials = read_frame(tmp_path / "runs" / "quickstart")
    assert sorted(trials["number"]) == ["0", "1", "2", "3", "4", "B0", "B1"]
    assert (trials["epochs"] == 10).all()

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 8
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if "robustfront.number" in run.data.tags:
            steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")]
            assert sorted(steps) == list(range(1, 11))


# Its own signal in the middle of a write to the ledger, which Tune asked for.
SIGNALLED = """
import os, signal, sys
from search.cli.main import main
from search.study import Ledger

name = sys.argv.pop(1)
original = getattr(Ledger, name)

def signalled(*arguments, **options):
    setattr(Ledger, name, original)  # a second signal would not wait
    value = original(*arguments, **options)
    os.kill(os.getpid(), signal.SIGTERM)
    return value

setattr(Ledger, name, signalled)
main()
"""


@pytest.mark.parametrize(
    "write", ["finish", pytest.param("ask", marks=pytest.mark.slow), pytest.param("report", marks=pytest.mark.slow)]
)
def test_a_signal_within_a_write_to_the_ledger_waits_for_its_end(tmp_path: Path, write: str) -> None:
    command = [sys.executable, "-c", SIGNALLED, write, "sweep", str(QUICKSTART)]
    command += [word for setting in SMALL for word in ("--set", setting)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 130, done.stderr
    assert "robustfront resume quickstart" in done.stderr
    assert "Traceback" not in done.stderr
    status = read_status("quickstart", tmp_path / "runs", reconciled=True).to_json()
    assert status["state"] == "interrupted"
    assert status["differences"] == []
    assert status["baselines"]["complete"] == (write == "finish")


@pytest.mark.slow
def test_settings_that_others_leave_behind_are_stopped_early(tmp_path: Path) -> None:
    settings = (
        *SMALL,
        "train.epochs=5",
        "search.trials=8",
        "search.halving={reduction_factor: 2, steps: 3, images: 40}",
    )
    done = robustfront(tmp_path, "sweep", str(QUICKSTART), settings=settings)
    assert done.returncode == 0, done.stderr
    trials = read_frame(tmp_path / "runs" / "quickstart").set_index("number")
    pruned = trials[trials["state"] == "pruned"]
    assert 1 <= len(pruned) < 8
    assert f"({len(pruned)} stopped early)" in done.stdout
    assert set(pruned["epochs"]) <= {1, 2, 4}  # the rungs
    assert (trials.loc[["B0", "B1"], "state"] == "complete").all()
    assert (trials[trials["state"] == "complete"]["epochs"] == 5).all()
    assert read_status("quickstart", tmp_path / "runs", reconciled=True).to_json()["differences"] == []

    # The same answers again from the ledger alone, as a resumed driver gets them.
    ledger = open_ledger(Run.open("quickstart", tmp_path / "runs"))
    config = ledger._config
    assert config.rungs is not None
    halving = rebuilt(Halving(rung_objectives(config.objectives), config.rungs.epochs, 2), ledger)
    for record in ledger.records():
        if record.state == "pruned":
            assert not halving.report(record.number, record.epochs, {})


def test_an_interrupted_run_says_how_to_continue(tmp_path: Path) -> None:
    run = Run(tmp_path / "small", small_config())
    again = rf"continue with `.*robustfront resume {re.escape(str(run.folder))}`"
    with pytest.raises(Interrupted, match=again), driver._resumable(run):
        raise Interrupted


def test_a_signal_that_reaches_rays_compiled_parts_is_an_interruption_too() -> None:
    with handled_signals() as signals:
        with pytest.raises(Interrupted), signals.polled():  # noqa: PT012 (a context is what is tested)
            try:
                signal.raise_signal(signal.SIGINT)  # the first waits for the next check
                signal.raise_signal(signal.SIGINT)
            except Interrupted as interrupted:
                raise SystemError("CoreWorker.wait returned a result with an exception set") from interrupted
        with pytest.raises(SystemError, match="of its own"), signals.polled():
            raise SystemError("of its own")
