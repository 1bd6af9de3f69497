"""The benchmark finds planted effects and counts the verdicts."""

from __future__ import annotations

from tests.benchmarks.verdict_rates import line, matters


def test_a_planted_effect_far_above_the_noise_is_found() -> None:
    assert matters(0.5, 40, 0) is True


def test_a_row_has_the_shares_of_the_three_answers() -> None:
    row = line(0.02, 40, ["True"] * 3 + ["None"])
    assert row.split()[:4] == ["2", "40", "4", "75"]
    assert "0 (0 to 49)" in row
    assert "25 (5 to 70)" in row
