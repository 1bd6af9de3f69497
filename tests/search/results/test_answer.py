"""The answer of a sweep, from records and per-image outcomes with known effects."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis.records import TrialRecord
from search.results.answer import answer_of, read_answer, write_answer
from search.runs.folder import Run
from tests.search.examples import small_config
from trainables.robustness import Outcomes

SEEDS, IMAGES = 4, 400


def sweep(folder: Path, slope: float, *, seeds: int = SEEDS, confirmed: bool = True) -> tuple[Run, list[TrialRecord]]:
    """Twelve settings and a baseline; robust accuracy rises by ``slope`` over s, and seeds move all by some points.

    Further seeds of the first and the last setting, and of the baseline, confirm.
    """
    run = Run(folder, small_config())
    (folder / "outcomes").mkdir(parents=True)
    generator = np.random.default_rng(0)
    luck = generator.normal(0, 0.05, 3 * SEEDS)
    difficulty = generator.random(IMAGES)
    records: list[TrialRecord] = []

    def unit(number: str, s: float | None, seed: int, extends: str | None, role: str) -> None:
        share = 0.4 + slope * ((s or 1.0) - 1.0) + luck[seed] + generator.normal(0, 0.005)
        robust = difficulty < share
        clean = np.ones(IMAGES, dtype=np.bool_)
        clean[:8] = False
        Outcomes(
            clean=clean[np.newaxis],
            kept=robust[np.newaxis, np.newaxis, np.newaxis, np.newaxis],
            distance=np.ones((1, 1, 1, IMAGES), dtype=np.float32),
            passes=np.zeros((1, 1, 1, 1, 2), dtype=np.int64),
            sees=np.ones((1, 1), dtype=np.bool_),
            attacks=("pgd2-ce",),
            remaining=(False,),
            views=("raw",),
            epsilons=(1.5,),
            seeds=(100 + seed,),
        ).save(folder / "outcomes" / f"{number}.npz")
        values = {"clean_accuracy": float(clean.mean()), "robust_accuracy": float(robust.mean())}
        baseline = (extends or number).startswith("B")
        records.append(
            TrialRecord(
                number=number,
                loss="cross-entropy" if baseline else "i-sce",
                parameters={} if s is None else {"s": s, "m": 0.05},
                state="complete",
                objectives=values,
                replicates=(values,),
                seeds=(100 + seed,),
                images=dict.fromkeys(values, IMAGES),
                outcomes=f"outcomes/{number}.npz",
                extends=extends,
                seed_index=seed,
                role=role,
            )
        )

    settings: list[tuple[str, float | None]] = [(str(at), 1 + at / 11) for at in range(12)]
    settings.append(("B0", None))
    further = 0
    for number, s in settings:
        confirming = range(seeds, 3 * SEEDS) if confirmed and number in ("0", "11", "B0") else range(0)
        for seed in (*range(seeds), *confirming):
            role = "search" if seed < seeds else "confirmation"
            unit(number if seed == 0 else f"R{further}", s, seed, None if seed == 0 else number, role)
            further += seed > 0
    return run, records


def test_a_real_effect_is_found_and_confirmed(tmp_path: Path) -> None:
    run, records = sweep(tmp_path, 0.2)
    answered = answer_of(run.config, run.folder, records)
    assert answered is not None
    write_answer(run, answered)
    document = read_answer(run)
    assert document == json.loads(json.dumps(answered.to_json()))
    robust = document["verdict"]["robust_accuracy"]
    low, high = robust["effect"]
    assert robust["matters"] is True
    assert low < 0.2 < high
    assert document["recommended"]["parameters"] == {"s": 2.0, "m": 0.05}
    assert document["verdict"]["clean_accuracy"]["matters"] is False, "clean accuracy is the same everywhere"
    low, high = robust["over_baseline"]
    assert low < 0.2 < high
    assert 2 < document["components"]["robust_accuracy"]["seed"] < 12, "five points were planted"
    assert document["seeds"] == SEEDS
    [baseline] = [entry for entry in document["entries"] if "baseline" in entry]
    assert baseline["baseline"] == "plain cross entropy"
    assert "s = 2, m = 0.05 is the most robust" in answered.lines[0]
    assert "between seeds" in answered.lines[-1]


def test_it_says_how_many_images_the_next_search_should_attack(tmp_path: Path) -> None:
    run, records = sweep(tmp_path, 0.0, seeds=2, confirmed=False)
    before = answer_of(run.config, run.folder, records)
    assert before is not None
    assert before.images is None, "nothing is known of the work"
    expensive, cheap = (_with_passes(run, records, passes) for passes in (400 * IMAGES, 4 * IMAGES))
    assert cheap > 5 * expensive, "ten times as many if an image costs a hundredth"


def _with_passes(run: Run, records: list[TrialRecord], passes: int) -> int:
    """The number of images that the answer recommends if attacking a unit took ``passes`` passes."""
    work = {"train_passes": 4e4, "attack_passes": float(passes)}
    counted = [replace(record, replicates=({**record.replicates[0], **work},)) for record in records]
    answered = answer_of(run.config, run.folder, counted)
    assert answered is not None
    assert answered.images is not None
    used, best = answered.images
    assert f"About {best} attacked images per unit are most efficient; this search used {used}." in answered.lines
    return best


def test_no_effect_is_claimed_where_there_is_none(tmp_path: Path) -> None:
    run, records = sweep(tmp_path, 0.0)
    answered = answer_of(run.config, run.folder, records)
    assert answered is not None
    assert answered.answer.matters["robust_accuracy"].matters is not True


def test_one_seed_says_so(tmp_path: Path) -> None:
    run, records = sweep(tmp_path, 0.2, seeds=1, confirmed=False)
    answered = answer_of(run.config, run.folder, records)
    assert answered is not None
    assert answered.to_json()["verdict"]["robust_accuracy"]["matters"] is None
    [line] = answered.lines
    assert "this network only" in line


def test_outcomes_may_be_missing(tmp_path: Path) -> None:
    run, records = sweep(tmp_path, 0.2)
    (tmp_path / "outcomes" / "3.npz").unlink()
    answered = answer_of(run.config, run.folder, records)
    assert answered is not None
    assert answered.to_json()["components"]["robust_accuracy"]["images_per_unit"] is None


def test_there_is_no_answer_before_a_setting_is_complete(tmp_path: Path) -> None:
    run, records = sweep(tmp_path, 0.2)
    assert (
        answer_of(run.config, run.folder, [record for record in records if (record.extends or record.number) == "B0"])
        is None
    )
    assert read_answer(run) is None
