"""The intervals of a run's tables, from the outcome of each image under each seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from analysis.frames import read_frame
from analysis.records import TrialRecord
from analysis.statistics import seeds_and_images_interval, seeds_interval
from search.results.final import settings_of
from search.results.intervals import with_intervals
from search.results.writing import write_tables
from search.runs.folder import Run
from tests.search.results.test_answer import sweep
from trainables.robustness import Outcomes


def kept(run: Run, setting: TrialRecord) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """The outcome of each image under each seed of a setting, or under each seed that confirms it."""
    numbers = setting.extensions if setting.confirms else (setting.number, *setting.extensions)
    loaded = [Outcomes.load(run.folder / "outcomes" / f"{number}.npz") for number in numbers]
    return np.concatenate([each.kept[:, 0, 0, 0] for each in loaded])


def settings(run: Run, units: list[TrialRecord]) -> list[TrialRecord]:
    return with_intervals(run, units, settings_of(units, []))


def test_a_setting_has_the_interval_of_its_seeds_and_images(tmp_path: Path) -> None:
    run, units = sweep(tmp_path, 0.2)
    for setting in settings(run, units):
        exact = seeds_and_images_interval(kept(run, setting))
        assert setting.interval("robust_accuracy") == pytest.approx(exact)
        assert exact != pytest.approx(replace(setting, intervals={}).interval("robust_accuracy"), abs=1e-4)


def test_without_an_image_s_outcomes_the_interval_is_the_wide_one(tmp_path: Path) -> None:
    run, units = sweep(tmp_path, 0.2)
    (tmp_path / "outcomes" / "R0.npz").unlink()  # a seed of setting 0
    first, second, *_ = settings(run, units)
    values = [replicate["robust_accuracy"] for replicate in first.replicates]
    assert first.interval("robust_accuracy") == seeds_interval(values, 400)
    assert second.interval("robust_accuracy") == pytest.approx(seeds_and_images_interval(kept(run, second)))


def test_an_audited_number_has_no_outcomes_but_its_claim_has(tmp_path: Path) -> None:
    run, units = sweep(tmp_path, 0.2, confirmed=False)

    def audited(values: dict[str, float]) -> dict[str, float]:
        return {**values, "audited_accuracy": values["robust_accuracy"] - 0.03}

    units = [
        replace(
            unit,
            accuracies={"audited_accuracy": unit.objectives["robust_accuracy"] - 0.03},
            replicates=tuple(audited(dict(each)) for each in unit.replicates),
            images={**unit.images, "audited_accuracy": 400},
            verdict="sound",
        )
        for unit in units
    ]
    setting = settings(run, units)[0]
    values = [replicate["robust_accuracy"] for replicate in setting.replicates]
    assert setting.interval("robust_accuracy") == seeds_interval(values, 400)
    assert setting.interval("claimed_accuracy") == pytest.approx(seeds_and_images_interval(kept(run, setting)))


def test_units_with_different_images_are_not_pooled(tmp_path: Path) -> None:
    run, units = sweep(tmp_path, 0.2)
    path = tmp_path / "outcomes" / "R0.npz"
    outcomes = Outcomes.load(path)
    replace(outcomes, kept=outcomes.kept[..., :300]).save(path)
    first = settings(run, units)[0]
    assert "robust_accuracy" not in first.intervals
    assert "clean_accuracy" in first.intervals


def test_the_tables_at_the_end_of_a_sweep_have_these_intervals(tmp_path: Path) -> None:
    run, units = sweep(tmp_path, 0.2)
    both = [Outcomes.load(run.folder / str(unit.outcomes)) for unit in units[:2]]  # as one trial of two seeds
    clean, robust = (np.concatenate([getattr(each, name) for each in both]) for name in ("clean", "kept"))
    replace(both[0], clean=clean, kept=robust, seeds=(1, 2)).save(tmp_path / "outcomes" / "99.npz")
    replicates = units[0].replicates + units[1].replicates
    units.append(replace(units[0], number="99", outcomes="outcomes/99.npz", replicates=replicates, seeds=(1, 2)))
    write_tables(run, units)
    row = read_frame(tmp_path).set_index("number").loc["99"]
    expected = seeds_and_images_interval(robust[:, 0, 0, 0])
    assert (row["robust_accuracy_low"], row["robust_accuracy_high"]) == pytest.approx(tuple(expected))
    for entry in YAML(typ="safe").load(tmp_path / "pareto.yaml"):
        setting = next(each for each in settings(run, units) if each.number == str(entry["number"]))
        exact = seeds_and_images_interval(kept(run, setting.confirmed or setting))
        assert entry["robust_accuracy_interval"] == pytest.approx(list(exact))
