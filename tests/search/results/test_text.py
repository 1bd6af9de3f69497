"""Trials, values and times as text."""

from __future__ import annotations

from math import nan

import pytest

from analysis.records import TrialRecord
from search.results.text import clock, describe, measured_text, short, value_text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("measure", "value", "text"),
    [("clean_accuracy", 0.9712, "97.1 %"), ("train_seconds", 12.34, "12.3 s"), ("validation_loss", 0.5, "0.5000")],
)
def test_a_value_has_its_unit(measure: str, value: float, text: str) -> None:
    assert value_text(measure, value) == text


@pytest.mark.parametrize(
    ("measure", "value", "interval", "text"),
    [
        ("clean_accuracy", 0.294, (0.199, 0.388), "29.4 % (19.9 to 38.8)"),
        ("clean_accuracy", 0.294, (nan, nan), "29.4 %"),
        ("train_seconds", 12.3456, (11.0, 13.5), "12.3 s (11 to 13.5)"),
        ("cost", 12.3456, (1.0, 20.55), "12.35 (1 to 20.6)"),
    ],
)
def test_a_value_and_its_interval(measure: str, value: float, interval: tuple[float, float], text: str) -> None:
    assert measured_text(measure, value, interval) == text


def test_a_trial_in_a_few_words() -> None:
    trial = TrialRecord(number="7", loss="i-sce", parameters={"s": 1.23412, "m": 0.0456}, state="running")
    baseline = TrialRecord(number="B0", loss="cross-entropy", parameters={}, state="running")
    assert describe(trial).split() == ["trial", "7", "s=1.2341", "m=0.0456"]
    assert describe(baseline).split() == ["baseline", "B0", "cross-entropy"]
    assert short("robust_accuracy") == "robust"
