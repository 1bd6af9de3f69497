"""A run's results on the terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from analysis.records import TrialRecord
from search.results.tables import front_table, print_table
from search.runs.folder import Run
from tests.search.examples import small_config
from trainables.losses import Baseline

SPACE = {
    "gamma": {"low": 0.0, "high": 5.0},
    "train.learning_rate": {"low": 0.0001, "high": 0.1},
    "train.batch_size": {"choices": [16, 32]},
    "train.schedule": {"choices": ["constant", "cosine"]},
    "train.precision": {"choices": ["fp32", "bf16"]},
}
VALUES = {
    "gamma": 1.23456,
    "train.learning_rate": 0.01234,
    "train.batch_size": 32,
    "train.schedule": "constant",
    "train.precision": "fp32",
}


def setting(number: str, loss: str, **parameters: object) -> TrialRecord:
    objectives = {"clean_accuracy": 0.5, "robust_accuracy": 0.25}
    return TrialRecord(
        number=number,
        loss=loss,
        parameters=parameters,  # type: ignore[arg-type]
        state="complete",
        objectives=objectives,
        replicates=(objectives,),
        images={"clean_accuracy": 100, "robust_accuracy": 100},
    )


def printed(run: Run, settings: list[TrialRecord]) -> str:
    console = Console(width=80, file=io.StringIO())
    print_table(console, front_table(run, settings, settings[:1]))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_wide_table_cuts_no_number(tmp_path: Path) -> None:
    config = small_config(loss={"name": "tests.trainables.plugins:focal"}, space=SPACE)
    text = printed(Run(tmp_path, config), [setting("0", config.loss.name, **VALUES)])
    assert "1.2346" in text
    assert "constant" in text
    assert "(40.4 to 59.6)" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_baseline_without_a_note_is_called_by_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(loss={"name": "tests.trainables.plugins:Squared"})
    baselines = (Baseline("cross-entropy"),)
    monkeypatch.setattr(type(config.loss), "baselines", baselines)
    text = printed(Run(tmp_path, config), [setting("0", config.loss.name), setting("B0", "cross-entropy")])
    assert "B0: cross-entropy" in text
