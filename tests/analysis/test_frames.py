from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.frames import is_column, measures, read_frame, to_frame, write_frame
from analysis.records import TrialRecord
from analysis.statistics import seeds_interval, wilson_interval
from tests.analysis.examples import ATTACKS, MIXED_DOMAINS, grid_run, mixed_run, scattered_run, trial
from trainables.settings.space import Value


def test_the_table_says_how_many_replicates_a_row_rests_on() -> None:
    records = [*scattered_run(replicates=1)[:2], *scattered_run(replicates=3)[2:4]]
    frame = to_frame(records)
    assert list(frame["replicates"]) == [1, 1, 3, 3]
    assert list(frame["clean_accuracy[2]"].isna()) == [True, True, False, False]


def test_columns_do_not_depend_on_the_order_of_the_records() -> None:
    records = scattered_run(replicates=2)
    pd.testing.assert_frame_equal(to_frame(records), to_frame(records[::-1]))
    assert list(to_frame(records).columns) == [
        *("number", "kind", "state", "loss", "defence", "s", "m"),
        *(f"{name}{end}" for name in ("clean_accuracy", "robust_accuracy", *ATTACKS) for end in ("", "_low", "_high")),
        *(f"{name}[{r}]" for name in ("clean_accuracy", "robust_accuracy", *ATTACKS) for r in (0, 1)),
        *("feasible", "violation", "replicates", "seeds", "images_clean_accuracy", "images_robust_accuracy"),
        *("epochs", "train_seconds", "attack_seconds", "seconds", "started", "finished"),
        *("failure", "checkpoint", "outcomes", "origin", "extends", "verdict"),
    ]


def test_every_column_that_is_no_parameter_is_known_as_one() -> None:
    names = [name for name in to_frame(scattered_run()).columns if name.isidentifier()]
    assert [name for name in names if not is_column(name)] == ["s", "m"]
    assert not is_column("train.learning_rate")


def test_one_replicate_has_wilson_intervals_over_its_images() -> None:
    row = to_frame(scattered_run()).iloc[3]
    for name, images in [("clean_accuracy", 1000), ("robust_accuracy", 500), (ATTACKS[0], 500)]:
        expected = wilson_interval(round(row[name] * images), images)
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(expected))


def test_replicates_have_intervals_over_seeds_and_images() -> None:
    row = to_frame(scattered_run(replicates=3)).iloc[3]
    for name, images in [("clean_accuracy", 1000), ("robust_accuracy", 500), (ATTACKS[2], 500)]:
        expected = seeds_interval([row[f"{name}[{r}]"] for r in range(3)], images)
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(expected))


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


def test_a_wall_time_that_is_an_objective_is_the_mean_over_the_replicates() -> None:
    """The sum over the seeds stood in its column, so pictures had another front than the tables."""
    pooled = trial("0", 0.9, 0.5, objectives={"clean_accuracy": 0.9, "train_seconds": 9.0}, train_seconds=18.0)
    pruned = trial("1", 0.0, 0.0, state="pruned", objectives={}, train_seconds=4.0)
    assert list(to_frame([pooled, pruned])["train_seconds"]) == [9.0, 4.0]


def test_times_are_utc() -> None:
    assert to_frame(grid_run()).loc[0, "finished"] == "2023-11-14T22:13:36.500+00:00"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = to_frame(scattered_run(replicates=2))
    write_frame(scattered_run(replicates=2), tmp_path)
    pd.testing.assert_frame_equal(read_frame(tmp_path), written)
    text = pd.read_csv(tmp_path / "trials.csv", dtype={"number": "string"})
    assert list(text.columns) == list(written.columns)
    for name in ("s", "m", "clean_accuracy", "robust_accuracy_low"):
        np.testing.assert_array_equal(text[name], written[name])  # every digit
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.csv", "trials.parquet"]


def test_an_empty_run_can_be_written_and_read(tmp_path: Path) -> None:
    write_frame([], tmp_path)
    pd.testing.assert_frame_equal(read_frame(tmp_path), to_frame([]))
    assert list(read_frame(tmp_path).columns)[:5] == ["number", "kind", "state", "loss", "defence"]


def test_parameters_have_the_types_of_their_values() -> None:
    frame = to_frame(mixed_run())
    types = {name: str(frame[name].dtype) for name in MIXED_DOMAINS}
    assert types == {
        "s": "float64",
        "m": "float64",
        "train.learning_rate": "float64",
        "model.width": "Int64",
        "defence.name": "string",
        "train.augment": "boolean",
    }
    assert set(frame["defence"]) == {"none", "adversarial-training"}


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2.5], "float64", [1.0, 2.5]),
        ([1, None, 3], "Int64", [1, pd.NA, 3]),
        ([True, None], "boolean", [True, pd.NA]),
        (["a", 2, True], "string", ["a", "2", "true"]),
        ([True, 1], "string", ["true", "1"]),
    ],
)
def test_mixed_and_missing_values(values: list[Value | None], dtype: str, expected: list[object]) -> None:
    records = [
        trial(str(i), 0.9, 0.5, parameters={} if value is None else {"p": value}) for i, value in enumerate(values)
    ]
    pd.testing.assert_series_equal(to_frame(records)["p"], pd.Series(expected, dtype=dtype), check_names=False)


def test_parameters_of_any_kind_survive_both_files(tmp_path: Path) -> None:
    written = to_frame(mixed_run())
    write_frame(mixed_run(), tmp_path)
    pd.testing.assert_frame_equal(read_frame(tmp_path), written)
    types = {name: written[name].dtype for name in MIXED_DOMAINS}
    text = pd.read_csv(tmp_path / "trials.csv", dtype=types, keep_default_na=False, na_values=[""])  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(text[list(MIXED_DOMAINS)], written[list(MIXED_DOMAINS)])


def test_a_parameter_cannot_hide_another_column() -> None:
    record = TrialRecord(number="0", loss="i-sce", parameters={"epochs": 3}, state="running")
    with pytest.raises(ValueError, match="got epochs; rename it"):
        to_frame([record])
