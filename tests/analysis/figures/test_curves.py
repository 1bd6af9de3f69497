from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.figures.curves import draw_learning_curves
from analysis.frames import to_frame
from analysis.records import TrialRecord
from tests.analysis.examples import MIXED_DOMAINS, SM_DOMAINS, mixed_run, scattered_run
from tests.analysis.figures.pages import TITLE, check


def epochs_of(records: Sequence[TrialRecord]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"number": record.number, "epoch": epoch, "validation_loss": 1 / epoch, "validation_accuracy": 0.9}
            for record in records
            for epoch in range(1, 4)
        ]
    )


def test_curves_are_named_and_accuracies_are_in_percent(tmp_path: Path) -> None:
    records = scattered_run(trials=6)
    words = check(draw_learning_curves(epochs_of(records), to_frame(records), SM_DOMAINS, tmp_path, title=TITLE))
    assert "6: i-sce s=1.2, m=0.05, pruned" in words
    assert "Validation accuracy (%)" in words


def test_curves_of_mixed_parameters_are_named(tmp_path: Path) -> None:
    records = mixed_run(trials=3)
    words = check(draw_learning_curves(epochs_of(records), to_frame(records), MIXED_DOMAINS, tmp_path, title=TITLE))
    assert "B1: i-sce s=1, m=0, train.learning_rate=0.001, model.width=1, train.augment=false" in words
