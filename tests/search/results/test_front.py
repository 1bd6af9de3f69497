"""The settings on a sweep's front."""

from __future__ import annotations

from typing import Any

from analysis.records import TrialRecord
from search.config import SweepConfig
from search.results.front import front_of
from tests.search.examples import small_config

# (clean, robust): the means over the units, and the posterior means, which are less noisy.
MEASURED = {"0": (0.90, 0.50), "1": (0.93, 0.40), "2": (0.91, 0.30)}
EXPECTED = {"0": (0.91, 0.40), "1": (0.91, 0.39), "2": (0.92, 0.38), "B0": (0.99, 0.90)}


def records() -> list[TrialRecord]:
    return [
        TrialRecord(
            number=number,
            loss="i-sce",
            parameters={"s": 1.5, "m": 0.05},
            state="complete",
            objectives={"clean_accuracy": clean, "robust_accuracy": robust},
        )
        for number, (clean, robust) in MEASURED.items()
    ]


def answer(**changes: Any) -> dict[str, Any]:
    entries = [
        {
            "number": number,
            "baseline" if number.startswith("B") else "parameters": {},
            "means": {"clean_accuracy": clean, "robust_accuracy": robust},
            "on_front": number == "B0",
        }
        for number, (clean, robust) in EXPECTED.items()
    ]
    return {"units": 3, "entries": entries, **changes}


def numbers(config: SweepConfig, document: dict[str, Any] | None) -> list[str]:
    return [record.number for record in front_of(records(), config, document)]


def test_posterior_means_decide_in_a_sweep_that_confirms() -> None:
    config = small_config(search={"trials": 3, "confirmation_seeds": 2})
    assert numbers(config, answer()) == ["2", "0"], "also if a baseline beats them all"


def test_the_settings_own_numbers_decide_otherwise() -> None:
    config = small_config(search={"trials": 3, "confirmation_seeds": 2})
    assert numbers(small_config(), answer()) == ["1", "0"], "nothing is confirmed"
    assert numbers(config, None) == ["1", "0"], "there is no answer"
    assert numbers(config, answer(units=2)) == ["1", "0"], "the answer is an older one"
    entries = [{**entry, "means": {"clean_accuracy": 0.9}} for entry in answer()["entries"]]
    assert numbers(config, answer(entries=entries)) == ["1", "0"], "an objective has no model"
