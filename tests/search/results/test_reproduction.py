"""The table of an experiment, for outcomes planted image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.records import TrialRecord
from analysis.statistics import paired_difference, seeds_and_images_interval
from search.config.experiments import Experiment
from search.results.leaderboard import Contestant
from search.results.reproduction import MeasuredPanel, make_table
from search.runs.folder import Run
from tests.search.examples import small_config
from trainables.robustness import Outcomes

VALUES, RADII, IMAGES = 784, (0.56, 1.5), 40
EXPERIMENT: dict[str, Any] = {
    "title": "PGD",
    "shows": "Numbers.",
    "form": "bars",
    "panels": {
        "MNIST": {
            "quick": "digits",
            "paper": "mnist",
            "methods": ["i-sce", "cross-entropy"],
            "attacks": [{"name": "pgd", "steps": 2}],
            "radii": {"rms": [0.02], "l2": [1.5]},
        }
    },
    "claims": [
        {
            "name": "above",
            "says": "I-SCE is above SCE",
            "panel": "MNIST",
            "first": {"method": "i-sce", "where": {"s": 1.0}},
            "others": [{"method": "cross-entropy"}],
            "attack": "pgd2-ce",
            "at": {"rms": 0.02},
        },
        {
            "name": "spread",
            "says": "settings matter",
            "panel": "MNIST",
            "kind": "spread",
            "first": {"method": "i-sce"},
            "attack": "pgd2-ce",
            "at": {"rms": 0.02},
        },
        {
            "name": "peak",
            "says": "there is a peak",
            "panel": "MNIST",
            "kind": "peak",
            "first": {"method": "i-sce"},
            "attack": "pgd2-ce",
            "at": {"rms": 0.02},
        },
    ],
}
# The number of images that survive the attack, by method, setting and seed.
SURVIVORS: Mapping[str, Mapping[float | None, Sequence[int]]] = {
    "i-sce": {1.0: (30, 20, 26), 1.5: (24, 21, 24), 2.0: (14, 35, 12)},
    "cross-entropy": {None: (18, 20, 15)},
}


def plant(folder: Path, survivors: int) -> None:
    """Outcomes of one unit: ``survivors`` images survive the paper's attack, half of them both, a third at 1.5."""
    order = np.arange(IMAGES)
    kept = np.zeros((1, 2, 2, 2, IMAGES), dtype=bool)  # replicates, attacks, views, radii, images
    for e, share in enumerate((1, 3)):
        kept[0, 0, :, e] = order < survivors // share
        kept[0, 1, :, e] = order < survivors // (2 * share)
    outcomes = Outcomes(
        clean=np.ones((1, 60), dtype=bool),
        kept=kept,
        distance=np.zeros((1, 2, 2, IMAGES), np.float32),
        passes=np.zeros((1, 2, 2, 2, 2), np.int64),
        sees=np.array([[True, False], [True, True]]),
        attacks=("pgd2-ce", "apgd3-ce"),
        remaining=(False, True),
        views=("normalized", "raw"),
        epsilons=RADII,
        seeds=(123,),
    )
    outcomes.save(folder)


def contestant(folder: Path, name: str) -> Contestant:
    """A finished sweep without a ledger: a table needs only records and outcomes."""
    attacks = [{"name": "pgd", "steps": 2, "views": ["normalized"]}, {"name": "apgd", "steps": 3, "remaining": True}]
    config = small_config(name=name, robustness={"attacks": attacks, "epsilon": list(RADII)})
    run = Run.plan(config, folder)
    run.create({"name": "mnist5k", "sha256": "0" * 64, "location": "here", "sizes": {"train": 300}})
    units = []
    for setting, counts in SURVIVORS[name].items():
        first = None
        for seed, count in enumerate(counts):
            number = str(len(units)) if first is None else f"R{len(units)}"
            plant(run.folder / "outcomes" / f"{number}.npz", count)
            units.append(
                TrialRecord(
                    number=number,
                    loss=name,
                    parameters={} if setting is None else {"s": setting},
                    state="complete",
                    objectives={"clean_accuracy": 1.0, "robust_accuracy": 0.5},
                    outcomes=f"outcomes/{number}.npz",
                    extends=first,
                    seed_index=seed,
                    train_seconds=2.0,
                    attack_seconds=1.0,
                )
            )
            first = first or number
    return Contestant(name, run, units)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("runs")
    experiment = Experiment.model_validate(EXPERIMENT)
    sweeps = {name: (name.upper(), contestant(folder, name)) for name in SURVIVORS}
    panel = MeasuredPanel("MNIST", experiment.panels["MNIST"], VALUES, "a in place of b", sweeps, lambda _, __: {})
    return make_table("figure-5", experiment, "quick", [panel])


def images(counts: Sequence[int], share: int = 1) -> Any:
    return np.stack([np.arange(IMAGES) < count // share for count in counts])


def only(table: pd.DataFrame, **values: Any) -> Any:
    rows = table
    for name, value in values.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1, rows
    return SimpleNamespace(**rows.iloc[0].to_dict())


def test_an_accuracy_is_under_the_attack_of_the_paper_or_the_worst_case(table: pd.DataFrame) -> None:
    counts = SURVIVORS["i-sce"][1.0]
    own = table[(table["kind"] == "measured") & (table["setting"] == "s=1")]
    attack = only(own, evaluation="attack", rms=0.02)
    assert attack.value == pytest.approx(sum(counts) / (3 * IMAGES), abs=1e-6)
    assert (attack.low, attack.high) == pytest.approx(seeds_and_images_interval(images(counts)), abs=1e-6)
    assert (attack.seeds, attack.images, attack.attack) == (3, IMAGES, "pgd2-ce")
    assert attack.by_seed == "0.7500 0.5000 0.6500"
    worst = only(own, evaluation="worst", rms=0.02)
    assert worst.value == pytest.approx(np.mean(images(counts, 2)), abs=1e-6)
    assert only(own, evaluation="attack", radius=1.5).value == pytest.approx(np.mean(images(counts, 3)), abs=1e-6)


def test_if_all_networks_agree_the_interval_is_that_of_the_images_of_one(table: pd.DataFrame) -> None:
    clean = only(table, kind="measured", setting="s=1", evaluation="clean")
    assert clean.value == clean.high == 1.0
    assert 0.9 < clean.low < 1.0


def test_a_claim_is_the_paired_difference_of_both_evaluations(table: pd.DataFrame) -> None:
    for evaluation, share in (("attack", 1), ("worst", 2)):
        row = only(table, claim="above", evaluation=evaluation)
        first, second = images(SURVIVORS["i-sce"][1.0], share), images(SURVIVORS["cross-entropy"][None], share)
        mean, interval, _ = paired_difference(first, second)
        assert row.value == pytest.approx(mean, abs=1e-6)
        assert (row.low, row.high) == pytest.approx(interval, abs=1e-6)
        assert (row.method, row.against) == ("I-SCE", "CROSS-ENTROPY")


def test_the_best_setting_is_chosen_by_the_other_seeds(table: pd.DataFrame) -> None:
    # Without seed 0, the best and the worst are 2 and 1.5; without seed 1, 1 and 2; without seed 2, 1 and 1.5. By all
    # seeds, s = 1 would be 15 images ahead of s = 2.
    row = only(table, claim="spread", evaluation="attack")
    assert row.value == pytest.approx(((14 - 24) + (20 - 35) + (26 - 24)) / (3 * IMAGES), abs=1e-6)


def test_a_peak_lies_between_the_ends_and_is_compared_with_the_largest_value(table: pd.DataFrame) -> None:
    row = only(table, claim="peak", evaluation="attack")
    assert row.value == pytest.approx(((24 - 14) + (21 - 35) + (24 - 12)) / (3 * IMAGES), abs=1e-6)
    assert row.against == "its largest value"
