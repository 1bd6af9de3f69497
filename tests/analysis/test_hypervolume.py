from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.hypervolume import (
    GrowingFront,
    Reference,
    SearchFront,
    hypervolume,
    hypervolume_trace,
    reference_from,
    reference_rule,
)
from analysis.pareto import is_nondominated, pareto_front
from analysis.records import TrialRecord
from tests.analysis.examples import OBJECTIVES, scattered_run, trial
from trainables.metrics import Direction

Problem = tuple[list[list[float]], list[dict[str, float]]]
UP: Direction = "maximize"
DOWN: Direction = "minimize"


def reference_of(records: list[TrialRecord]) -> Reference:
    return reference_from([record.objectives for record in records if record.is_baseline], OBJECTIVES)


def inclusion_exclusion(points: npt.NDArray[np.float64]) -> float:
    """The volume of the union of the boxes [0, point]."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            total += (-1) ** (size + 1) * math.prod(np.min(subset, axis=0))
    return total


@st.composite
def fronts(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    k = draw(st.integers(1, 4))
    points = draw(st.lists(st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * k), max_size=7))
    return np.array(points, dtype=np.float64).reshape(-1, k)


@given(fronts())
def test_is_the_union_of_boxes(points: npt.NDArray[np.float64]) -> None:
    k = points.shape[1]
    assert hypervolume(points, [UP] * k, [0.0] * k) == pytest.approx(inclusion_exclusion(points), abs=1e-9)


@given(fronts(), st.integers(0, 3))
def test_a_minimised_objective_is_a_mirrored_one(points: npt.NDArray[np.float64], axis: int) -> None:
    k = points.shape[1]
    axis %= k
    directions, corner, mirrored = [UP] * k, [0.0] * k, points.copy()
    directions[axis], corner[axis], mirrored[:, axis] = DOWN, 1.0, 1 - points[:, axis]
    expected = hypervolume(points, [UP] * k, [0.0] * k)
    assert hypervolume(mirrored, directions, corner) == pytest.approx(expected, abs=1e-9)


@given(fronts(), st.data())
def test_another_point_never_lowers_it(points: npt.NDArray[np.float64], data: st.DataObject) -> None:
    k = points.shape[1]
    more = data.draw(st.tuples(*[st.floats(-1, 2, allow_subnormal=False)] * k))
    before, after = (hypervolume(p, [UP] * k, [0.0] * k) for p in (points, np.vstack([points, more])))
    assert after >= before - 1e-12


def test_closed_forms() -> None:
    assert hypervolume([], [UP, UP], [0, 0]) == 0
    assert hypervolume([[0.98, 0.5]], [UP, UP], [0, 0]) == pytest.approx(0.49)
    assert hypervolume([[0.5, 1.0], [1.0, 0.5]], [UP, UP], [0, 0]) == pytest.approx(0.75)
    assert hypervolume([[0.5, 3.0]], [UP, DOWN], [0, 10]) == pytest.approx(3.5)
    assert hypervolume([[0.5, 11.0], [-0.1, 3.0]], [UP, DOWN], [0, 10]) == 0  # not better than the reference


def test_trace_grows_in_the_order_of_finishing_to_the_fronts_volume() -> None:
    records = scattered_run()
    reference = reference_of(records)
    trace = hypervolume_trace(records[::-1], OBJECTIVES, reference)
    assert list(trace["number"]) == [str(i) for i in range(24)]
    assert (np.diff(trace["hypervolume"]) >= 0).all()
    front = np.array([list(record.objectives.values()) for record in pareto_front(records, OBJECTIVES)])
    point, scale = ([axis[name] for name in OBJECTIVES] for axis in (reference.point, reference.scale))
    scaled = np.maximum((front - point) / scale, 0.0)
    assert trace["hypervolume"].iloc[-1] == pytest.approx(inclusion_exclusion(scaled))


def test_trials_that_miss_a_constraint_add_nothing_to_the_trace() -> None:
    records = [
        replace(record, constraints={"x": 1.0 if int(record.number.removeprefix("B")) % 2 else -1.0})
        for record in scattered_run()
    ]
    reference = reference_of(records)
    trace = hypervolume_trace(records, OBJECTIVES, reference)
    assert list(trace["number"]) == [str(i) for i in range(24)]
    assert (np.diff(trace["hypervolume"])[::2] == 0).all()
    alone = hypervolume_trace([record for record in records if record.feasible], OBJECTIVES, reference)
    assert trace["hypervolume"].iloc[-1] == alone["hypervolume"].iloc[-1] > 0


def test_the_reference_lies_below_the_baselines_and_their_margin_is_the_unit() -> None:
    objectives: dict[str, Direction] = {"clean_accuracy": UP, "pgd/raw": UP, "robust_accuracy@1.5": UP, "seconds": DOWN}
    first = {"clean_accuracy": 0.97, "pgd/raw": 0.5, "robust_accuracy@1.5": 0.3, "seconds": 30.0}
    second = {"clean_accuracy": 0.95, "pgd/raw": 0.6, "robust_accuracy@1.5": 0.2, "seconds": 20.0}
    reference = reference_from([first, second], objectives)
    assert reference.point == pytest.approx(
        {"clean_accuracy": 0.93, "pgd/raw": 0.4, "robust_accuracy@1.5": 0.1, "seconds": 60.0}
    )
    assert reference.scale == {"clean_accuracy": 0.02, "pgd/raw": 0.1, "robust_accuracy@1.5": 0.1, "seconds": 30.0}
    assert reference_rule(objectives).startswith("clean_accuracy 0.02 below the lowest baseline, pgd/raw 0.1 below")


def test_both_objectives_count() -> None:
    """From (0, 0), 1 % of clean accuracy was worth less than half as much as 1 % of robust accuracy."""
    reference = reference_from([{"clean_accuracy": 0.95, "robust_accuracy": 0.4}], OBJECTIVES)
    base, cleaner, tougher = ([0.96, 0.45], [0.97, 0.45], [0.96, 0.5])
    volumes = [reference.volume([point], OBJECTIVES) for point in (base, cleaner, tougher)]
    assert volumes == pytest.approx([1.5 * 1.5, 2.0 * 1.5, 1.5 * 2.0])


def test_a_reference_is_plain_json() -> None:
    reference = reference_from([{"clean_accuracy": 0.95, "robust_accuracy": 0.4}], OBJECTIVES)
    assert Reference.from_json(json.loads(json.dumps(reference.to_json()))) == reference
    assert reference.to_json()["robust_accuracy"] == {"point": pytest.approx(0.3), "scale": 0.1}


def test_a_cost_of_nothing_still_has_a_unit() -> None:
    reference = reference_from([{"clean_accuracy": 0.9, "seconds": 0.0}], {"clean_accuracy": UP, "seconds": DOWN})
    assert (reference.point["seconds"], reference.scale["seconds"]) == (1.0, 1.0)


THREE: dict[str, Direction] = {"clean_accuracy": UP, "robust_accuracy": UP, "train_seconds": DOWN}


@st.composite
def runs(draw: st.DrawFn) -> Problem:
    """Points and baselines of three objectives, on a coarse lattice."""
    value = st.tuples(*[st.integers(1, 20)] * 3).map(lambda point: [point[0] / 20, point[1] / 20, float(point[2])])
    points = draw(st.lists(value, max_size=8))
    baselines = draw(st.lists(value, min_size=1, max_size=3))
    return points, [dict(zip(THREE, point, strict=True)) for point in baselines]


@given(runs(), st.randoms(use_true_random=False))
def test_order_and_duplicates_change_no_volume(run: Problem, random: Random) -> None:
    points, baselines = run
    reference = reference_from(baselines, THREE)
    shuffled = [*points, *points[:3]]
    random.shuffle(shuffled)
    assert reference.volume(shuffled, THREE) == pytest.approx(reference.volume(points, THREE), rel=1e-12)
    random.shuffle(baselines)
    assert reference_from([*baselines, *baselines], THREE) == reference


@given(runs(), st.floats(1e-3, 1e3))
def test_units_change_no_volume(run: Problem, factor: float) -> None:
    points, baselines = run
    reference = reference_from(baselines, THREE)
    scaled = Reference(*({name: factor * at[name] for name in THREE} for at in (reference.point, reference.scale)))
    before = reference.volume(points, THREE)
    after = scaled.volume(factor * np.array(points).reshape(-1, 3), THREE)
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9)


@given(runs())
def test_what_does_not_beat_the_reference_adds_nothing(run: Problem) -> None:
    points, baselines = run
    reference = reference_from(baselines, THREE)
    before = reference.volume(points, THREE)
    corner = [reference.point[name] for name in THREE]
    for axis in range(3):
        beside = [1.0, 1.0, 0.1]
        beside[axis] = corner[axis]
        assert reference.volume([*points, corner, beside], THREE) == pytest.approx(before, rel=1e-12)


@given(runs())
def test_the_trace_never_falls(run: Problem) -> None:
    points, baselines = run
    front = SearchFront(THREE)
    front.refer_to(reference_from(baselines, THREE))
    volumes = [0.0]
    for i, point in enumerate(points):
        front.take(trial(str(i), 0.0, 0.0, objectives=dict(zip(THREE, point, strict=True))))
        volumes.append(front.hypervolume)
    assert (np.diff(volumes) >= 0).all()
    assert volumes[-1] == pytest.approx(reference_from(baselines, THREE).volume(points, THREE), rel=1e-9)


@given(
    points=st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=20),
    directions=st.tuples(*[st.sampled_from(["maximize", "minimize"])] * 3),
)
def test_a_growing_front_is_the_front_of_what_has_come(
    points: list[tuple[int, int, int]], directions: tuple[Direction, ...]
) -> None:
    front = GrowingFront(directions)
    for index, point in enumerate(points):
        before = set(map(tuple, front.points.tolist()))
        changed = front.add(point)
        mask = is_nondominated(points[: index + 1], directions)
        expected = {point for point, best in zip(points, mask, strict=False) if best}
        assert set(map(tuple, front.points.tolist())) == expected
        assert len(front.points) == len(expected)
        assert changed == (expected != before)
