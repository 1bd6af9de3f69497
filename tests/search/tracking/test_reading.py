"""The comparison of the ledger with ``trials.csv`` and MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.frames import write_frame
from analysis.records import TrialRecord
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run
from search.tracking.reading import reconcile
from tests.search.examples import small_config
from tests.search.tracking.examples import EXPERIMENT, History, mirror, trial

# What MLflow itself calls is not ours to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CHOSEN = {"kernel": "rbf", "shared": True, "model.width": 16}
TRIALS = [trial("0"), trial("1", "pruned", 2, parameters=CHOSEN), trial("2", "running", 1), trial("B0", parameters={})]


@pytest.fixture
def run(store: str, tmp_path: Path) -> Run:
    """A run whose table and MLflow hold ``TRIALS``."""
    made = Run.plan(small_config(tracking={"uri": store, "experiment": EXPERIMENT}), tmp_path / "runs")
    made.create(prepare_dataset(made.config.data))
    write_frame([record for record, _ in TRIALS], made.folder)
    assert mirror(store, tmp_path, TRIALS, identity=made.manifest()["id"]) is None
    return made


def differences(run: Run, trials: Sequence[tuple[TrialRecord, History]]) -> list[str]:
    return reconcile(run, [record for record, _ in trials], {record.number: rows for record, rows in trials})


def test_equal_trials_agree(run: Run) -> None:
    assert differences(run, TRIALS) == []


def test_each_difference_is_one_line(run: Run) -> None:
    (first, history), *rest = TRIALS
    changed = replace(first, objectives={**first.objectives, "robust_accuracy": 0.5})
    chosen = (replace(rest[0][0], parameters={**CHOSEN, "kernel": "linear"}), rest[0][1])
    ledger = [(changed, history), chosen, (rest[1][0], [*rest[1][1], *trial("2", epochs=2)[1][1:]]), trial("3")]
    assert differences(run, ledger) == [
        "trials.csv lacks trial 3",
        "trials.csv has trial B0, which the ledger does not have",
        "trials.csv, trial 0: robust_accuracy differ",
        "trials.csv, trial 1: kernel differ",
        "MLflow lacks trial 3",
        "MLflow has trial B0, which the ledger does not have",
        "MLflow, trial 0: robust_accuracy differs",
        "MLflow, trial 1: kernel differs",
        "MLflow, trial 2: 1 epochs instead of 2",
    ]


def test_what_is_missing_is_said(run: Run, store: str) -> None:
    (run.folder / "trials.csv").unlink()
    Path(store.removeprefix("sqlite:///")).unlink()
    table, tracking = differences(run, TRIALS)
    assert table == "trials.csv is missing, the ledger has 4 trials"
    assert tracking.startswith(f"MLflow at {store} cannot be read: ")
    assert tracking.endswith("does not exist")
