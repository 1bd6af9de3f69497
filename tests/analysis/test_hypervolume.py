from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.hypervolume import GrowingFront, hypervolume, hypervolume_trace, reference_point
from analysis.pareto import Direction, is_nondominated, pareto_front
from tests.analysis.examples import OBJECTIVES, scattered_run

UP: Direction = "maximize"
DOWN: Direction = "minimize"


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
def test_a_point_more_never_lowers_it(points: npt.NDArray[np.float64], data: st.DataObject) -> None:
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
    reference = reference_point(OBJECTIVES)
    trace = hypervolume_trace(records[::-1], OBJECTIVES, reference)
    assert list(trace["number"]) == [str(i) for i in range(24)]
    assert (np.diff(trace["hypervolume"]) >= 0).all()
    assert trace["hypervolume"].iloc[0] == pytest.approx(math.prod(records[0].objectives.values()))
    front = [list(record.objectives.values()) for record in pareto_front(records, OBJECTIVES)]
    assert trace["hypervolume"].iloc[-1] == pytest.approx(inclusion_exclusion(np.array(front)))


def test_trials_that_miss_a_constraint_add_nothing_to_the_trace() -> None:
    records = [
        replace(record, constraints={"x": 1.0 if int(record.number.removeprefix("B")) % 2 else -1.0})
        for record in scattered_run()
    ]
    reference = reference_point(OBJECTIVES)
    trace = hypervolume_trace(records, OBJECTIVES, reference)
    assert list(trace["number"]) == [str(i) for i in range(24)]
    assert (np.diff(trace["hypervolume"])[::2] == 0).all()
    alone = hypervolume_trace([record for record in records if record.feasible], OBJECTIVES, reference)
    assert trace["hypervolume"].iloc[-1] == alone["hypervolume"].iloc[-1] > 0


def test_the_reference_point_is_fixed_for_accuracies_and_asked_for_otherwise() -> None:
    assert reference_point(OBJECTIVES) == {"clean_accuracy": 0.0, "robust_accuracy": 0.0}
    objectives: dict[str, Direction] = {"clean_accuracy": UP, "seconds": DOWN}
    assert reference_point(objectives, {"seconds": 60.0}) == {"clean_accuracy": 0.0, "seconds": 60.0}
    with pytest.raises(ValueError, match="reference must give seconds"):
        reference_point(objectives)
    with pytest.raises(ValueError, match="got minutes"):
        reference_point(objectives, {"seconds": 60.0, "minutes": 1.0})


@given(
    points=st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=20),
    directions=st.tuples(*[st.sampled_from(["maximize", "minimize"])] * 3),
)
def test_a_growing_front_is_the_front_of_what_has_come(
    points: list[tuple[int, int, int]], directions: tuple[Direction, ...]
) -> None:
    front: GrowingFront[int] = GrowingFront(directions)
    for index, point in enumerate(points):
        before = set(map(tuple, front.points.tolist()))
        changed = front.add(point, index)
        mask = is_nondominated(points[: index + 1], directions)
        expected = {point for point, best in zip(points, mask, strict=False) if best}
        assert set(map(tuple, front.points.tolist())) == expected
        assert [points[member] for member in front.members] == list(map(tuple, front.points.tolist()))
        assert changed == (expected != before)
