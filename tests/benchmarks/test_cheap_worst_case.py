"""The benchmark of the cheap worst case adds up what it measures."""

from __future__ import annotations

from tests.benchmarks.cheap_worst_case import AUTOATTACK, Cost, pooled, table, worst_cases


def test_the_worst_cases_differ_in_steps_and_target() -> None:
    assert list(worst_cases([10])) == [
        AUTOATTACK,
        "apgd10-ce on f and z, apgd10-dlr",
        "apgd10-ce on f and z, apgd10-dlr-likeliest",
    ]


def test_networks_are_pooled_and_compared_with_autoattack() -> None:
    costs = [
        Cost("a", AUTOATTACK, 100, 20, 1000, 10.0),
        Cost("a", "cheap", 100, 21, 100, 0.5),
        Cost("b", AUTOATTACK, 300, 40, 3000, 30.0),
        Cost("b", "cheap", 300, 42, 500, 1.5),
    ]
    sums = pooled(costs)
    assert sums == [
        Cost("all networks", AUTOATTACK, 400, 60, 4000, 40.0),
        Cost("all networks", "cheap", 400, 63, 600, 2.0),
    ]
    assert table(sums).splitlines()[-1].split() == ["cheap", "15.8%", "+0.8", "600", "0.150", "2.00", "0.050"]
