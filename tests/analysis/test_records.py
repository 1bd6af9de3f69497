from __future__ import annotations

import numpy as np
import pytest

from analysis.frames import to_frame
from analysis.records import TrialRecord, in_order, value_text
from trainables.metrics import is_accuracy, is_under_attack
from trainables.settings.space import Value


def test_trials_are_in_natural_order_then_baselines_then_further_replicates() -> None:
    extends = {"R10": "B0", "R9": "2"}
    records = [
        TrialRecord(number=number, loss="i-sce", parameters={}, state="running", extends=extends.get(number))
        for number in ("R10", "10", "B1", "2", "R9", "B0", "0", "1")
    ]
    order = ["0", "1", "2", "10", "B0", "B1", "R9", "R10"]
    assert [record.number for record in in_order(records)] == order
    frame = to_frame(records)
    assert list(frame["number"]) == order
    assert list(frame["kind"]) == ["search"] * 4 + ["baseline"] * 2 + ["replicates"] * 2
    assert list(frame["extends"].dropna()) == ["2", "B0"]
    assert frame["replicates"].isna().all()


@pytest.mark.parametrize(("number", "extends"), [("R0", None), ("0", "1"), ("B0", "1")])
def test_further_replicates_are_of_a_trial_and_nothing_else_is(number: str, extends: str | None) -> None:
    with pytest.raises(AssertionError):
        TrialRecord(number=number, loss="i-sce", parameters={}, state="running", extends=extends)


def test_intervals_of_fractions_stay_fractions_and_others_do_not() -> None:
    values = ({"a": 0.01, "b": 0.01}, {"a": 0.99, "b": 0.99})
    record = TrialRecord(
        number="0",
        loss="i-sce",
        parameters={},
        state="complete",
        objectives={"a": 0.5, "b": 0.5},
        replicates=values,
        images={"a": 100},
    )
    assert record.interval("a") == (0, 1)
    assert record.interval("b").low < -1 < 1 < record.interval("b").high


def test_a_measure_without_images_and_replicates_has_no_interval() -> None:
    record = TrialRecord(number="0", loss="i-sce", parameters={}, state="complete", objectives={"depth": 3.0})
    assert np.isnan(record.interval("depth")).all()


def test_what_was_measured_of_all_replicates_together_has_no_interval() -> None:
    objectives = {"clean_accuracy": 0.5, "train_seconds": 3.0}
    replicates = ({"clean_accuracy": 0.4}, {"clean_accuracy": 0.6})
    record = TrialRecord(
        number="0", loss="i-sce", parameters={}, state="complete", objectives=objectives, replicates=replicates
    )
    assert np.isnan(record.interval("train_seconds")).all()
    assert np.isfinite(record.interval("clean_accuracy")).all()


def test_a_record_cannot_be_complete_without_finite_objectives() -> None:
    for state, objectives in [("complete", {}), ("pruned", {"a": 1.0}), ("complete", {"a": float("nan")})]:
        with pytest.raises(AssertionError):
            TrialRecord(number="0", loss="i-sce", parameters={}, state=state, objectives=objectives)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measure", "accuracy", "attacked"),
    [
        ("clean_accuracy", True, False),
        ("robust_accuracy", True, True),
        ("robust_accuracy@1.5000001", True, True),
        ("robust_accuracy@2", True, True),
        ("pgd50-ce/normalized", True, True),
        ("torchattacks:FAB-1.5/raw", True, True),
        ("train_seconds", False, False),
    ],
)
def test_the_names_of_measures(measure: str, accuracy: bool, attacked: bool) -> None:
    assert (is_accuracy(measure), is_under_attack(measure)) == (accuracy, attacked)


@pytest.mark.parametrize(
    ("value", "text"), [(1.23456, "1.235"), (1e-5, "1e-05"), (2.0, "2"), (3, "3"), (True, "true"), ("a b", "a b")]
)
def test_values_for_people(value: Value, text: str) -> None:
    assert value_text(value) == text
