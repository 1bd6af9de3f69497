"""Successive halving: which trials continue, against properties that must hold and a ranking by brute force."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.schema import rungs_of
from search.study import Halving

Direction = Literal["maximize", "minimize"]
Point = tuple[int, ...]

REDUCTION_FACTORS = st.sampled_from([1.5, 2.0, 3.0, 4.0])
# Few distinct values, so that ties and equal results are common.
POINTS = st.integers(2, 3).flatmap(
    lambda objectives: st.lists(
        st.tuples(*[st.integers(-4, 4)] * objectives),
        min_size=1,
        max_size=24,
    )
)


def names(objectives: int) -> list[str]:
    return [f"f{index}" for index in range(objectives)]


def decide(
    points: Sequence[Sequence[float]],
    reduction_factor: float,
    directions: Mapping[str, Any] | None = None,
) -> list[bool]:
    """What a rung decides on results in their order; all are minimised unless ``directions`` says otherwise."""
    directions = directions or dict.fromkeys(names(len(points[0])), "minimize")
    halving = Halving(directions, (1,), reduction_factor)
    return [
        halving.report(str(number), 1, dict(zip(directions, point, strict=True))) for number, point in enumerate(points)
    ]


def dominates(point: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(point, other, strict=True)) and tuple(point) != tuple(other)


def fronts(points: Sequence[Point]) -> list[list[int]]:
    """Positions of the points, front by front."""
    left, ranked = list(range(len(points))), []
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        left = [i for i in left if i not in front]
        ranked.append(front)
    return ranked


def goes_on(points: Sequence[Point], reduction_factor: float) -> bool:
    """The rule for the last point, written in the plainest way."""
    kept = math.ceil(len(points) / reduction_factor)
    ranked = fronts(points)
    if len(points) - 1 in ranked[0]:
        return True
    for front in ranked:
        if len(points) - 1 in front:
            break
        kept -= len(front)
    crowding = {i: Fraction(0) for i in front}
    distinct = [i for i in front if points.index(points[i]) == i]
    for k in range(len(points[0])):
        ordered = sorted(distinct, key=lambda i: points[i][k])  # stable: of equal ones the earlier first
        spread = points[ordered[-1]][k] - points[ordered[0]][k]
        for before, i, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
            crowding[i] += Fraction(points[after][k] - points[before][k], spread or 1)
        for i in (ordered[0], ordered[-1]):
            crowding[i] += 10**6  # beyond every finite sum
    ahead = [i for i in front[:-1] if min(crowding[i], 10**6) >= min(crowding[front[-1]], 10**6)]
    return len(ahead) < kept


@given(POINTS, REDUCTION_FACTORS)
def test_the_rule_by_brute_force(points: list[Point], reduction_factor: float) -> None:
    expected = [goes_on(points[: n + 1], reduction_factor) for n in range(len(points))]
    assert decide(points, reduction_factor) == expected


@given(POINTS, REDUCTION_FACTORS)
def test_a_result_that_nothing_dominates_is_never_stopped(points: list[Point], reduction_factor: float) -> None:
    decisions = decide(points, reduction_factor)
    for n, (point, decision) in enumerate(zip(points, decisions, strict=True)):
        dominated = any(dominates(other, point) for other in points[:n])
        assert decision or dominated
    best = tuple(min(column) - 1 for column in zip(*points, strict=True))
    assert decide([*points, best], reduction_factor)[-1]  # it dominates its whole rung


@given(POINTS, REDUCTION_FACTORS)
def test_a_result_that_enough_others_dominate_is_never_kept(points: list[Point], reduction_factor: float) -> None:
    for n, (point, decision) in enumerate(zip(points, decide(points, reduction_factor), strict=True)):
        dominators = sum(dominates(other, point) for other in points[:n])
        assert not (decision and dominators >= math.ceil((n + 1) / reduction_factor))


@given(POINTS, REDUCTION_FACTORS, st.data())
def test_units_directions_and_the_objectives_order_do_not_matter(
    points: list[Point], reduction_factor: float, data: st.DataObject
) -> None:
    objectives = len(points[0])
    order = data.draw(st.permutations(range(objectives)))
    scales = data.draw(st.tuples(*[st.integers(1, 1000)] * objectives))
    offsets = data.draw(st.tuples(*[st.integers(-1000, 1000)] * objectives))
    flips = data.draw(st.tuples(*[st.booleans()] * objectives))
    directions = {f"f{k}": "maximize" if flips[k] else "minimize" for k in order}
    changed = [[(-1 if flips[k] else 1) * (scales[k] * point[k] + offsets[k]) for k in order] for point in points]
    assert decide(changed, reduction_factor, directions) == decide(points, reduction_factor)


def test_an_objective_in_small_units_counts_as_much_within_a_front() -> None:
    draws = np.random.default_rng(0)
    angles = draws.random(200) * np.pi / 2
    # Two quarters of circles: within the worse one only the distances to neighbours decide.
    radii = np.where(draws.random(200) < 0.2, 1.0, 2.0)
    points = radii[:, None] * np.column_stack([1 - np.cos(angles), 1 - np.sin(angles)])
    decisions = decide(points.tolist(), 2.0)
    assert 20 < sum(decisions) < 180
    assert decide((points * [1024.0, 1 / 1024]).tolist(), 2.0) == decisions


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=40), REDUCTION_FACTORS)
def test_with_one_objective_it_is_plain_successive_halving(values: list[int], reduction_factor: float) -> None:
    decisions = decide([(value,) for value in values], reduction_factor)
    for n, (value, decision) in enumerate(zip(values, decisions, strict=True)):
        not_worse = sum(other <= value for other in values[:n])
        best = all(value <= other for other in values[:n])
        assert decision == (best or not_worse < math.ceil((n + 1) / reduction_factor))


@given(POINTS, REDUCTION_FACTORS, st.data())
def test_saying_a_result_again_changes_nothing(
    points: list[Point], reduction_factor: float, data: st.DataObject
) -> None:
    directions: dict[str, Direction] = dict.fromkeys(names(len(points[0])), "minimize")
    halving = Halving(directions, (2, 4), reduction_factor)
    said: list[tuple[str, int, Point, bool]] = []
    for number, point in enumerate(points):
        for epoch in (2, 4):
            if epoch == 4 and not said[-1][-1]:
                continue
            decision = halving.report(str(number), epoch, dict(zip(directions, point, strict=True)))
            said.append((str(number), epoch, point, decision))
            again, at, values, before = data.draw(st.sampled_from(said))
            other = [value + data.draw(st.integers(-1, 1)) for value in values]
            assert halving.report(again, at, dict(zip(directions, other, strict=True))) == before
    rebuilt = Halving(directions, (2, 4), reduction_factor)
    for number_, epoch, point, decision in said:
        assert rebuilt.report(number_, epoch, dict(zip(directions, point, strict=True))) == decision


def test_rungs_are_apart_and_other_epochs_are_not_compared() -> None:
    halving = Halving({"accuracy": "maximize"}, (1, 3), 3.0)
    assert halving.rungs == (1, 3)
    assert halving.report("0", 1, {"accuracy": 0.9})
    assert not halving.report("1", 1, {"accuracy": 0.1})
    assert halving.report("2", 2, {})  # no rung: its values are not looked at
    assert halving.report("3", 3, {"accuracy": 0.1, "other": math.nan})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_not_recorded(value: float) -> None:
    halving = Halving({"clean": "maximize", "robust": "maximize"}, (1,), 3.0)
    with pytest.raises(ValueError, match="values must hold a finite number for each of clean, robust"):
        halving.report("0", 1, {"clean": 0.5, "robust": value})
    with pytest.raises(ValueError, match="values must hold a finite number"):
        halving.report("0", 1, {"clean": 0.5})
    assert halving.report("1", 1, {"clean": 0.1, "robust": 0.1})
    assert not halving.report("0", 1, {"clean": 0.0, "robust": 0.0})


@pytest.mark.parametrize(
    ("epochs", "first", "reduction_factor", "rungs"),
    [
        (27, 1, 3.0, (1, 3, 9)),
        (28, 1, 3.0, (1, 3, 9, 27)),
        (15, 1, 3.0, (1, 3, 9)),
        (15, 2, 2.0, (2, 4, 8)),
        (20, 1, 2.5, (1, 2, 6, 16)),
        (6, 1, 1.2, (1, 2, 3, 4, 5)),
        (3, 3, 3.0, ()),
        (1, 4, 2.0, ()),
        (1000, 1, 10.0, (1, 10, 100)),
    ],
)
def test_rungs_are_geometric_and_below_the_end(
    epochs: int, first: int, reduction_factor: float, rungs: tuple[int, ...]
) -> None:
    assert rungs_of(epochs, first, reduction_factor) == rungs
