"""The benchmark of audits against the strongest known attacks adds up what it measures."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.audit_truth import RECIPES, Result, Row, compare, ladders, reference


def result(network: str, cascade: str, kept: str, passes: int) -> Result:
    return Result(network, cascade, "1" * len(kept), kept, (("step", kept.count("1"), passes),), 1.0)


def test_what_a_ladder_finds_beyond_the_reference_counts_for_the_reference_too() -> None:
    references = {
        "mnist5k/ce": result("mnist5k/ce", "reference", "1110000000", 1000),
        "mnist5k/isce-1-0.1": result("mnist5k/isce-1-0.1", "reference", "1100000000", 1000),
        "fashion-mnist/ce": result("fashion-mnist/ce", "reference", "1111000000", 1000),
    }
    results = {
        "weak": {
            "mnist5k/ce": result("mnist5k/ce", "weak", "1111000000", 30),
            "mnist5k/isce-1-0.1": result("mnist5k/isce-1-0.1", "weak", "1111100000", 50),
        },
        "strong": {
            "mnist5k/ce": result("mnist5k/ce", "strong", "1011000000", 200),
            "mnist5k/isce-1-0.1": result("mnist5k/isce-1-0.1", "strong", "1100000000", 100),
        },
    }
    weak, strong = compare(references, results, "mnist5k")
    assert weak.gaps == pytest.approx({"mnist5k/ce": 20, "mnist5k/isce-1-0.1": 30}), "two images hold, of ten"
    assert strong.gaps == pytest.approx({"mnist5k/ce": 10, "mnist5k/isce-1-0.1": 0})
    assert (weak.gap, weak.cost, weak.bias) == pytest.approx((25, 0.04, 10))
    assert compare(references, results, "fashion-mnist") == []


def test_the_bias_needs_both_losses() -> None:
    assert math.isnan(Row("a", {"mnist5k/at": 1.0}, {"mnist5k/at": 0.1}).bias)


def test_the_networks_the_reference_and_the_ladders() -> None:
    assert len(RECIPES) == 6
    assert sum(name.startswith("isce") for name in RECIPES) == 3
    labels = [step.label for step in reference()]
    assert labels[0] == "autoattack/raw"
    assert "apgd100-dlr-likeliest-restarts=5/raw" in labels
    assert len({tuple(step.label for step in steps) for steps in ladders().values()}) == len(ladders())
