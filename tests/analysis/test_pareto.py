from __future__ import annotations

import csv
import io
import json
import shlex

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from analysis.pareto import Direction, export, is_nondominated, pareto_front, pareto_table, train_command
from analysis.records import TrialRecord
from tests.analysis.examples import OBJECTIVES, grid_run, scattered_run

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


def trial(number: str, clean: float, robust: float, **changes: object) -> TrialRecord:
    fields: dict[str, object] = {
        "number": number,
        "loss": "i-sce",
        "parameters": {"s": 1 + clean / 3, "m": 0.1 / 3},
        "state": "complete",
        "objectives": {"clean_accuracy": clean, "robust_accuracy": robust},
        "images": {"clean_accuracy": 1000, "robust_accuracy": 500},
        "seeds": (7, 8),
    }
    return TrialRecord(**{**fields, **changes})  # type: ignore[arg-type]


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


def replicated(number: str, replicates: int, **changes: object) -> TrialRecord:
    return trial(
        number, 0.98, 0.4, replicates=({"clean_accuracy": 0.98, "robust_accuracy": 0.4},) * replicates, **changes
    )


def test_json_is_what_other_programs_are_promised() -> None:
    front = pareto_front([trial("3", 0.98, 0.4)], OBJECTIVES)
    (entry,) = json.loads(export(front, OBJECTIVES, "json", "configs/quickstart.yaml"))
    assert entry["number"] == 3
    assert entry["loss"] == "i-sce"
    assert entry["params"] == {"s": 1 + 0.98 / 3, "m": 0.1 / 3}
    assert (entry["clean_accuracy"], entry["robust_accuracy"]) == (0.98, 0.4)
    assert entry["clean_accuracy_interval"][0] < 0.98 < entry["clean_accuracy_interval"][1]
    assert entry["seeds"] == [7, 8]
    assert entry["replicates"] == 0


def test_the_command_gives_every_parameter_back_to_the_last_digit() -> None:
    (entry,) = json.loads(export([trial("3", 0.98, 0.4)], OBJECTIVES, "json", "my configs/a.yaml"))
    words = shlex.split(entry["command"])
    assert words[:3] == ["robustfront", "train", "my configs/a.yaml"]
    assert words[3::2] == ["--param", "--param"]
    assert {name: float(value) for name, value in (word.split("=") for word in words[4::2])} == entry["params"]


def test_the_command_of_pooled_numbers_asks_for_all_replicates() -> None:
    (entry,) = json.loads(export([replicated("3", 5, extensions=("R0", "R1"))], OBJECTIVES, "json", "a.yaml"))
    assert entry["command"].endswith(" --set train.replicates=5")
    assert entry["replicates"] == 5
    assert "--set" not in train_command(replicated("3", 5), "a.yaml")  # its configuration says so


def test_rows_say_how_many_replicates_they_rest_on() -> None:
    rows = pareto_table([replicated("3", 1), replicated("4", 3, extensions=("R0",))], OBJECTIVES)
    assert [row["replicates"] for row in rows] == ["1", "3"]


def test_csv_holds_what_some_of_the_front_alone_have() -> None:
    front = [trial("3", 0.98, 0.4), trial("4", 0.97, 0.5, origin="first/7")]
    rows = list(csv.DictReader(io.StringIO(export(front, OBJECTIVES, "csv", "a.yaml"))))
    assert [row["origin"] for row in rows] == ["", "first/7"]


def test_yaml_holds_what_json_holds() -> None:
    front = pareto_front(scattered_run(), OBJECTIVES)
    text = export(front, OBJECTIVES, "yaml", "a.yaml")
    assert YAML(typ="safe").load(text) == json.loads(export(front, OBJECTIVES, "json", "a.yaml"))
    assert text.startswith(f"- number: {front[0].number}\n  loss: i-sce\n  params: {{s: ")


def test_csv_is_flat_and_exact() -> None:
    front = pareto_front(scattered_run(), OBJECTIVES)
    rows = list(csv.DictReader(io.StringIO(export(front, OBJECTIVES, "csv", "a.yaml"))))
    assert [row["number"] for row in rows] == [record.number for record in front]
    for row, record in zip(rows, front, strict=True):
        assert float(row["s"]) == record.parameters["s"]
        assert (float(row["robust_accuracy_low"]), float(row["robust_accuracy_high"])) == record.interval(
            "robust_accuracy"
        )
        assert row["seeds"] == "100"


@pytest.mark.parametrize("style", ["json", "yaml", "csv"])
def test_an_empty_front_can_be_exported(style: str) -> None:
    assert export([], OBJECTIVES, style, "a.yaml").strip() in ("[]", "number")  # type: ignore[arg-type]


def test_people_read_percent_with_intervals() -> None:
    (row,) = pareto_table([trial("3", 0.98, 0.4)], OBJECTIVES)
    assert row == {
        "trial": "3",
        "s": "1.327",
        "m": "0.03333",
        "clean accuracy % [95 %]": "98.0 [96.9, 98.7]",
        "robust accuracy % [95 %]": "40.0 [35.8, 44.4]",
    }


def test_a_grid_has_a_front_too() -> None:
    front = pareto_front(grid_run(), OBJECTIVES)
    clean = [record.objectives["clean_accuracy"] for record in front]
    robust = [record.objectives["robust_accuracy"] for record in front]
    assert clean == sorted(clean, reverse=True)
    assert robust == sorted(robust)


def constrained(number: str, clean: float, robust: float) -> TrialRecord:
    return trial(number, clean, robust, constraints={"clean_accuracy >= 0.97": 0.97 - clean})


def test_a_trial_that_misses_a_constraint_is_on_no_front_while_another_meets_them() -> None:
    records = [constrained("0", 0.97, 0.3), constrained("1", 0.96, 0.9), constrained("2", 0.98, 0.2)]
    assert [record.number for record in pareto_front(records, OBJECTIVES)] == ["2", "0"]
    nearest = pareto_front([constrained("1", 0.96, 0.9), constrained("3", 0.95, 0.95)], OBJECTIVES)
    assert [(record.number, record.feasible) for record in nearest] == [("1", False)]


@pytest.mark.parametrize("style", ["json", "yaml", "csv"])
def test_exports_say_what_is_feasible_where_there_are_constraints(style: str) -> None:
    def exported(record: TrialRecord) -> dict[str, object]:
        text = export([record], OBJECTIVES, style, "a.yaml")  # type: ignore[arg-type]
        (entry,) = csv.DictReader(io.StringIO(text)) if style == "csv" else YAML(typ="safe").load(text)
        return dict(entry)

    for clean, feasible, violation in ((0.98, True, 0.0), (0.96, False, 0.01)):
        entry = exported(constrained("1", clean, 0.4))
        assert str(entry["feasible"]) == str(feasible)
        assert float(str(entry["violation"])) == pytest.approx(violation)
    assert "feasible" not in exported(trial("1", 0.98, 0.4))
    (row,) = pareto_table([constrained("1", 0.96, 0.4)], OBJECTIVES)
    assert row["constraints"] == "missed by 0.01"
