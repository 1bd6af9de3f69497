from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.records import TrialRecord, in_order, measures, read, to_frame, write
from analysis.statistics import student_interval, wilson_interval
from tests.analysis.examples import ATTACKS, grid_run, scattered_run
from trainables import files as atomic


def test_trials_are_in_natural_order_then_baselines_then_further_replicates() -> None:
    extends = {"R10": "B0", "R9": "2"}
    records = [
        TrialRecord(number=number, loss="i-sce", parameters={}, state="running", extends=extends.get(number))
        for number in ("R10", "10", "B1", "2", "R9", "B0", "0", "1")
    ]
    order = ["0", "1", "2", "10", "B0", "B1", "R9", "R10"]
    assert [record.number for record in in_order(records)] == order
    frame = to_frame(records)
    assert list(frame["number"]) == order
    assert list(frame["kind"]) == ["search"] * 4 + ["baseline"] * 2 + ["replicates"] * 2
    assert list(frame["extends"].dropna()) == ["2", "B0"]
    assert frame["replicates"].isna().all()


@pytest.mark.parametrize(("number", "extends"), [("R0", None), ("0", "1"), ("B0", "1")])
def test_further_replicates_are_of_a_trial_and_nothing_else_is(number: str, extends: str | None) -> None:
    with pytest.raises(AssertionError):
        TrialRecord(number=number, loss="i-sce", parameters={}, state="running", extends=extends)


def test_the_table_says_how_many_replicates_a_row_rests_on() -> None:
    records = [*scattered_run(replicates=1)[:2], *scattered_run(replicates=3)[2:4]]
    frame = to_frame(records)
    assert list(frame["replicates"]) == [1, 1, 3, 3]
    assert list(frame["clean_accuracy[2]"].isna()) == [True, True, False, False]


def test_columns_do_not_depend_on_the_order_of_the_records() -> None:
    records = scattered_run(replicates=2)
    pd.testing.assert_frame_equal(to_frame(records), to_frame(records[::-1]))
    assert list(to_frame(records).columns) == [
        *("number", "kind", "state", "loss", "s", "m"),
        *(f"{name}{end}" for name in ("clean_accuracy", "robust_accuracy", *ATTACKS) for end in ("", "_low", "_high")),
        *(f"{name}[{r}]" for name in ("clean_accuracy", "robust_accuracy", *ATTACKS) for r in (0, 1)),
        *("feasible", "violation", "replicates", "seeds", "images_clean_accuracy", "images_robust_accuracy"),
        *("epochs", "train_seconds", "attack_seconds", "seconds", "started", "finished"),
        *("failure", "checkpoint", "outcomes", "origin", "extends", "verdict"),
    ]


def test_one_replicate_has_wilson_intervals_over_its_images() -> None:
    row = to_frame(scattered_run()).iloc[3]
    for name, images in [("clean_accuracy", 1000), ("robust_accuracy", 500), (ATTACKS[0], 500)]:
        expected = wilson_interval(round(row[name] * images), images)
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(expected))


def test_replicates_have_student_intervals_over_their_values() -> None:
    row = to_frame(scattered_run(replicates=3)).iloc[3]
    for name in ("clean_accuracy", "robust_accuracy", ATTACKS[2]):
        expected = student_interval([row[f"{name}[{r}]"] for r in range(3)])
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(expected))


def test_intervals_of_fractions_stay_fractions_and_others_do_not() -> None:
    values = ({"a": 0.01, "b": 0.01}, {"a": 0.99, "b": 0.99})
    one = TrialRecord(
        number="0",
        loss="i-sce",
        parameters={},
        state="complete",
        objectives={"a": 0.5, "b": 0.5},
        replicates=values,
        images={"a": 100},
    )
    assert one.interval("a") == (0, 1)
    assert one.interval("b").low < -1 < 1 < one.interval("b").high


def test_a_measure_without_images_and_replicates_has_no_interval() -> None:
    one = TrialRecord(number="0", loss="i-sce", parameters={}, state="complete", objectives={"depth": 3.0})
    assert np.isnan(one.interval("depth")).all()


def test_what_was_measured_of_all_replicates_together_has_no_interval() -> None:
    objectives = {"clean_accuracy": 0.5, "train_seconds": 3.0}
    replicates = ({"clean_accuracy": 0.4}, {"clean_accuracy": 0.6})
    one = TrialRecord(
        number="0", loss="i-sce", parameters={}, state="complete", objectives=objectives, replicates=replicates
    )
    assert np.isnan(one.interval("train_seconds")).all()
    assert np.isfinite(one.interval("clean_accuracy")).all()


def test_the_table_says_what_is_feasible_of_complete_trials_alone() -> None:
    records = [
        replace(record, constraints={"a >= 1": -1.0, "b <= 2": 0.25, "c <= 3": 0.5} if record.number == "3" else {})
        for record in scattered_run()
    ]
    frame = to_frame(records).set_index("number")
    assert not frame.loc["3", "feasible"]
    assert frame.loc["3", "violation"] == 0.75
    assert frame.loc["4", "feasible"]
    assert frame.loc[["24", "25"], ["feasible", "violation"]].isna().all(axis=None)


def test_unfinished_trials_have_no_numbers() -> None:
    frame = to_frame(scattered_run()).set_index("number")
    for number, state in [("24", "pruned"), ("25", "failed")]:
        assert frame.loc[number, "state"] == state
        assert frame.loc[number, measures(frame)].isna().all()
    assert frame.loc["25", "failure"] == "the loss is not finite"


def test_a_record_cannot_be_complete_without_finite_objectives() -> None:
    for state, objectives in [("complete", {}), ("pruned", {"a": 1.0}), ("complete", {"a": float("nan")})]:
        with pytest.raises(AssertionError):
            TrialRecord(number="0", loss="i-sce", parameters={}, state=state, objectives=objectives)  # type: ignore[arg-type]


def test_times_are_utc() -> None:
    assert to_frame(grid_run()).loc[0, "finished"] == "2023-11-14T22:13:36.500+00:00"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = write(scattered_run(replicates=2), tmp_path)
    pd.testing.assert_frame_equal(read(tmp_path), written)
    text = pd.read_csv(tmp_path / "trials.csv", dtype={"number": "string"})
    assert list(text.columns) == list(written.columns)
    for name in ("s", "m", "clean_accuracy", "robust_accuracy_low"):
        np.testing.assert_array_equal(text[name], written[name])  # every digit
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.csv", "trials.parquet"]


def test_an_empty_run_can_be_written_and_read(tmp_path: Path) -> None:
    written = write([], tmp_path)
    pd.testing.assert_frame_equal(read(tmp_path), written)
    assert list(read(tmp_path).columns)[:4] == ["number", "kind", "state", "loss"]


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trials\.parquet"):
        read(tmp_path)


def test_a_write_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = atomic.write(tmp_path / "deep" / "file", "old")

    def die(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(OSError, match="no space"):
        atomic.write(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
