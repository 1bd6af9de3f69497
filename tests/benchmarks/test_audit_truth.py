"""The benchmark of audits against the strongest known attacks adds up what it measures."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks.audit_truth import (
    CLAIM,
    QUICK_AUDIT,
    RECIPES,
    REFERENCE,
    Result,
    Row,
    accuracies,
    compare,
    ladders,
    libraries,
    reference,
)
from tests.trainables.victims import digits, trained
from trainables.attacks.pgd import PGD


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
    assert CLAIM in ladders()


@pytest.mark.parametrize("library", ["torchattacks", "foolbox"])
def test_each_default_attack_of_other_libraries_runs_and_together_they_find_what_one_step_does_not(
    library: str,
) -> None:
    images, labels = digits(24)
    model = trained()
    standing = [PGD(steps=1)(model, images, labels, radius=0.25).kept]
    for step in libraries()[library]:
        done = step.attack(model, images, labels, radius=0.25, view=step.view, standing=standing[-1])
        assert done.forward_passes > 0
        standing.append(done.kept)
    assert 0 < standing[-1].sum() < standing[0].sum()


def test_a_network_has_a_line_for_each_evaluation_and_one_for_what_survives_all_of_them() -> None:
    kept = {REFERENCE: "1101000000", CLAIM: "1111000000", QUICK_AUDIT: "1011000000"}
    kept |= dict.fromkeys(libraries(), "1111110000")
    lines = accuracies({name: result("mnist5k/ce", name, bits, 50) for name, bits in kept.items()})
    assert [line.split()[0] for line in lines] == [
        *("claimed", "quick", "reference", "strongest", "torchattacks", "foolbox")
    ]
    assert lines[0] == "claimed        40.0 (16.8 to 68.7), 5 passes per image"
    assert lines[3] == "strongest      20.0 (5.7 to 51.0), by any of the evaluations"
