"""Selecting settings from a front."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.records import TrialRecord
from analysis.selection import Selection, knee, select
from trainables.metrics import Direction

OBJECTIVES: dict[str, Direction] = {"clean_accuracy": "maximize", "robust_accuracy": "maximize"}
POINTS = {"0": (0.99, 0.1), "1": (0.98, 0.4), "2": (0.95, 0.45), "3": (0.90, 0.5)}
PROBABILITIES = {"0": 0.3, "1": 0.9, "2": 0.6, "3": 0.5}


def setting(number: str, clean: float, robust: float) -> TrialRecord:
    values = {"clean_accuracy": clean, "robust_accuracy": robust}
    return TrialRecord(number=number, loss="i-sce", parameters={}, state="complete", objectives=values)


FRONT = [setting(number, *point) for number, point in POINTS.items()]


def numbers(selection: Selection, front: list[TrialRecord] = FRONT) -> list[str]:
    return [record.number for record in select(front, OBJECTIVES, PROBABILITIES, selection)]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["0", "1", "2", "3"]),
        (Selection(min_clean=0.95), ["0", "1", "2"]),
        (Selection(knee=True), ["1"]),
        (Selection(best="robust_accuracy"), ["3"]),
        (Selection(best="robust_accuracy", top=2), ["3", "2"]),
        (Selection(best="robust_accuracy", min_clean=0.97), ["1"]),
        (Selection(probability=0.5), ["1", "2", "3"]),
        (Selection(top=2), ["1", "2"]),
    ],
)
def test_a_selection_keeps_the_settings_that_meet_it(selection: Selection, expected: list[str]) -> None:
    assert numbers(selection) == expected


def test_confirmed_numbers_decide_if_there_are_any() -> None:
    confirmed = replace(setting("1", 0.96, 0.6), role="confirmation")
    front = [replace(record, confirmed=confirmed) if record.number == "1" else record for record in FRONT]
    assert numbers(Selection(best="robust_accuracy"), front) == ["1"]
    assert numbers(Selection(min_clean=0.97), front) == ["0"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(min_clean=0.995), "--min-clean must be at most 0.99, the highest value, got 0.995"),
        (Selection(probability=0.95), "--probability must be at most 0.9, the highest value, got 0.95"),
        (Selection(best="speed"), r"--max must be an objective \(clean_accuracy, robust_accuracy\), got speed"),
    ],
)
def test_a_condition_that_no_setting_meets_is_named(selection: Selection, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        numbers(selection)


def test_two_points_have_no_knee() -> None:
    with pytest.raises(ValueError, match="--knee must have three or more settings"):
        numbers(Selection(knee=True), FRONT[:2])


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=8, unique=True))
def test_a_knee_is_farthest_from_the_line_between_the_ends(heights: list[float]) -> None:
    y = np.sort(heights)[::-1]
    x = np.linspace(0, 1, len(y))
    at = knee(np.stack([x, y], axis=1))
    assert at is not None
    scaled = (y - y[-1]) / (y[0] - y[-1])
    distance = (x + scaled - 1) / np.sqrt(2)
    assert distance[at] == pytest.approx(distance.max())
