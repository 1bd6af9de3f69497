from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from analysis.figures.curves import draw_epsilon_curves, draw_hypervolume, draw_learning_curves
from analysis.frames import to_frame
from analysis.hypervolume import Reference, hypervolume_trace
from analysis.records import TrialRecord
from tests.analysis.examples import MIXED_DOMAINS, OBJECTIVES, SM_DOMAINS, many_baselines, mixed_run, scattered_run
from tests.analysis.figures.pages import TITLE, check

REFERENCE = Reference(
    {"clean_accuracy": 0.94, "robust_accuracy": 0.3}, {"clean_accuracy": 0.02, "robust_accuracy": 0.1}
)


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


def test_the_curves_of_many_baselines_look_different(tmp_path: Path) -> None:
    """With more than four, two had the same colour."""
    records = many_baselines()
    words = check(draw_learning_curves(epochs_of(records), to_frame(records), SM_DOMAINS, tmp_path, title=TITLE))
    looks = re.findall(r'"line":\{"color":"(#\w+)","dash":"(\w+)","width":3\}', words)
    assert len(looks) == 2 * 9  # two metrics
    assert len(set(looks)) == 9


def test_the_picture_names_the_reference(tmp_path: Path) -> None:
    trace = hypervolume_trace(scattered_run(trials=6), OBJECTIVES, REFERENCE)
    words = check(draw_hypervolume(trace, tmp_path, title=TITLE, reference=REFERENCE))
    assert "clean accuracy from 0.94 in units of 0.02, robust accuracy from 0.3 in units of 0.1" in words


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trace"):
        draw_hypervolume(hypervolume_trace([], OBJECTIVES, REFERENCE), tmp_path, title=TITLE, reference=REFERENCE)
    assert list(tmp_path.iterdir()) == []


def accuracies(**curves: list[float]) -> pd.DataFrame:
    rows = [
        {"measure": name.replace("__", "/"), "epsilon": e, "accuracy": a, "low": a - 0.05, "high": a + 0.05}
        for name, accuracies in curves.items()
        for e, a in zip((0.0, 0.5, 2.0), accuracies, strict=True)
    ]
    return pd.DataFrame(rows)


def test_every_curve_that_can_be_seen_is_named_once(tmp_path: Path) -> None:
    curves = accuracies(
        pgd__normalized=[0.9, 0.8, 0.5],
        pgd__worst=[0.9, 0.6, 0.2],
        dlr__normalized=[0.9, 0.7, 0.4],
        dlr__worst=[0.9, 0.7, 0.4],
        robust_accuracy=[0.9, 0.6, 0.2],
    )
    picture, page = draw_epsilon_curves(curves, tmp_path, title="LeNet-5 on digits", axis="L2 radius")
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    words = text[text.rindex('class="plotly-graph-div"') :]
    for name in ("pgd, normalized logits", "dlr, normalized logits", "Robust accuracy, worst case"):
        assert words.count(f'"name":"{name}"') == 1
    for hidden in ("pgd, worst view", "dlr, worst view"):  # they lie under another
        assert hidden not in words
    assert "LeNet-5 on digits" in words
    assert "L2 radius" in words
