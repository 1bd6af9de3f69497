from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from analysis.pareto import is_nondominated, pareto_front
from analysis.records import TrialRecord
from tests.analysis.examples import OBJECTIVES, constrained, grid_run, trial
from trainables.metrics import Direction

DIRECTIONS: tuple[Direction, ...] = ("maximize", "minimize")


@st.composite
def problems(draw: st.DrawFn) -> tuple[npt.NDArray[np.float64], list[Direction]]:
    """Points of 1 to 4 objectives on a coarse lattice, so that ties and duplicates are common."""
    k = draw(st.integers(1, 4))
    points = draw(st.lists(st.tuples(*[st.integers(0, 4)] * k), max_size=25))
    directions = draw(st.lists(st.sampled_from(DIRECTIONS), min_size=k, max_size=k))
    return np.array(points, dtype=np.float64).reshape(-1, k) / 4, directions


def brute_force(points: npt.NDArray[np.float64], directions: list[Direction]) -> list[bool]:
    sign = [1 if direction == "maximize" else -1 for direction in directions]

    def dominates(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> bool:
        better = [s * (a - b) for s, a, b in zip(sign, p, q, strict=True)]
        return all(b >= 0 for b in better) and any(b > 0 for b in better)

    return [not any(dominates(q, p) for q in points) for p in points]


@given(problems())
def test_the_mask_is_that_of_the_definition(problem: tuple[npt.NDArray[np.float64], list[Direction]]) -> None:
    points, directions = problem
    assert is_nondominated(points, directions).tolist() == brute_force(points, directions)


@given(problems(), st.randoms(use_true_random=False))
def test_order_and_duplicates_change_no_front(
    problem: tuple[npt.NDArray[np.float64], list[Direction]], random: np.random.Generator
) -> None:
    points, directions = problem
    order = list(range(len(points)))
    random.shuffle(order)  # type: ignore[arg-type]
    mask = is_nondominated(points, directions)
    assert is_nondominated(points[order], directions).tolist() == mask[order].tolist()
    twice = is_nondominated(np.concatenate([points, points]), directions)
    assert twice.tolist() == [*mask.tolist(), *mask.tolist()]


@given(problems(), st.data())
def test_constraints_come_before_objectives(
    problem: tuple[npt.NDArray[np.float64], list[Direction]], data: st.DataObject
) -> None:
    points, directions = problem
    missed = np.array([data.draw(st.sampled_from([0.0, 0.0, 0.1, 0.2])) for _ in points])
    mask = is_nondominated(points, directions, missed)
    least = missed == missed.min(initial=np.inf)
    assert not mask[~least].any()
    assert mask[least].tolist() == brute_force(points[least], directions)
    assert is_nondominated(points, directions, np.zeros(len(points))).tolist() == brute_force(points, directions)


def test_only_complete_search_trials_enter_and_equal_ones_stay() -> None:
    records = [
        trial("10", 0.97, 0.5),
        trial("2", 0.97, 0.5),
        trial("3", 0.98, 0.4),
        trial("4", 0.96, 0.5),  # dominated
        trial("5", 0.0, 0.0, state="pruned", objectives={}),
        trial("6", 0.0, 0.0, state="failed", objectives={}),
        trial("B0", 1.0, 1.0),
    ]
    assert [record.number for record in pareto_front(records, OBJECTIVES)] == ["3", "2", "10"]
    assert [record.number for record in pareto_front(records, {**OBJECTIVES, "robust_accuracy": "minimize"})] == ["3"]
    assert pareto_front([], OBJECTIVES) == []


def test_a_grid_has_a_front_too() -> None:
    front = pareto_front(grid_run(), OBJECTIVES)
    clean = [record.objectives["clean_accuracy"] for record in front]
    robust = [record.objectives["robust_accuracy"] for record in front]
    assert clean == sorted(clean, reverse=True)
    assert robust == sorted(robust)


def test_a_trial_that_misses_a_constraint_is_on_no_front_while_another_meets_them() -> None:
    records = [constrained("0", 0.97, 0.3), constrained("1", 0.96, 0.9), constrained("2", 0.98, 0.2)]
    assert [record.number for record in pareto_front(records, OBJECTIVES)] == ["2", "0"]
    nearest = pareto_front([constrained("1", 0.96, 0.9), constrained("3", 0.95, 0.95)], OBJECTIVES)
    assert [(record.number, record.feasible) for record in nearest] == [("1", False)]


def test_a_claim_pushes_no_audited_trial_off_the_front_and_comes_last() -> None:
    def measured(number: str, clean: float, robust: float, verdict: str | None) -> TrialRecord:
        return TrialRecord(
            number=number,
            loss="i-sce",
            parameters={},
            state="complete",
            objectives={"clean_accuracy": clean, "robust_accuracy": robust},
            verdict=verdict,
        )

    objectives: dict[str, Direction] = {"clean_accuracy": "maximize", "robust_accuracy": "maximize"}
    trials = [
        measured("0", 0.99, 0.20, "sound"),
        measured("1", 0.97, 0.30, "masked"),
        measured("2", 0.98, 0.35, None),  # by its claim better than 1 in both
        measured("3", 0.96, 0.25, None),
        measured("4", 0.95, 0.28, "sound"),
    ]
    assert [each.number for each in pareto_front(trials, objectives)] == ["0", "1", "2"]
    claims = [replace(each, verdict=None) for each in trials]
    assert [each.number for each in pareto_front(claims, objectives)] == ["0", "2"]
    wall_time: dict[str, Direction] = {"clean_accuracy": "maximize", "train_seconds": "minimize"}
    timed = [replace(each, objectives={"clean_accuracy": 0.9, "train_seconds": float(each.number)}) for each in trials]
    assert [each.number for each in pareto_front(timed, wall_time)] == ["0"], "an audit says nothing of these"
