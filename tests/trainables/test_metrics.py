"""The grammar of metric names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainables import metrics

RADII = st.floats(min_value=1e-6, max_value=1e6)


@given(first=RADII, second=RADII)
def test_different_radii_have_different_names(first: float, second: float) -> None:
    assert (metrics.at_radius(first) == metrics.at_radius(second)) == (first == second)


def test_nearly_equal_radii_do_not_share_a_name() -> None:
    assert metrics.at_radius(2.0) == "robust_accuracy@2"
    assert metrics.at_radius(1.5000001) != metrics.at_radius(1.5000002)


def test_an_attack_on_one_view_has_no_worst_view() -> None:
    assert metrics.under_attack("pgd50-ce", ["raw"]) == ["pgd50-ce/raw"]
    assert metrics.under_attack("pgd50-ce", ["normalized", "raw"]) == ["pgd50-ce/normalized", "pgd50-ce/worst"]


def test_what_a_name_says() -> None:
    kinds = {
        "clean_accuracy": (True, False),
        "robust_accuracy": (True, True),
        "robust_accuracy@1.5000001": (True, True),
        "audited_accuracy": (True, True),
        "pgd50-ce/worst": (True, True),
        "validation_loss": (False, False),
        "train_seconds": (False, False),
    }
    assert {name: (metrics.is_accuracy(name), metrics.is_under_attack(name)) for name in kinds} == kinds
    assert metrics.direction("train_seconds") == "minimize"
