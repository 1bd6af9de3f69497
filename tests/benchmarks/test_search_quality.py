"""The worlds have the stated truth and noise, and the benchmark scores the searches' recommendations."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.noise import Observation, fit, space_points
from search.config.images import IMAGE_NOISE, INTERACTION, RECORDED_IMAGES
from tests.benchmarks.growth import REPOSITORY
from tests.benchmarks.record_worlds import PARTS, analysis
from tests.benchmarks.search_quality import (
    SEARCHES,
    Measured,
    Score,
    front_of_means,
    front_of_noise_model,
    reached,
    replayed,
    table,
)
from tests.benchmarks.worlds import (
    FOLDER,
    INTERACTION_SDS,
    OBJECTIVES,
    RECORDED,
    SEED_SDS,
    WORLDS,
    Draw,
    read,
    recorded,
)
from trainables.settings.space import Range


def test_a_measurement_is_the_truth_with_the_stated_noise_and_can_be_repeated() -> None:
    world = WORLDS["zdt1"]
    settings = np.random.default_rng(0).random((60, 2))
    draw = Draw(world, 0)
    noise = np.array([[draw.measure(x, seed) - world.function(x) for seed in range(60)] for x in settings])
    common = noise.mean(axis=0)
    np.testing.assert_allclose(common.std(axis=0), SEED_SDS, rtol=0.25)
    np.testing.assert_allclose((noise - common).std(axis=(0, 1)), INTERACTION_SDS, rtol=0.1)
    np.testing.assert_array_equal(draw.measure(settings[0], 3), Draw(world, 0).measure(settings[0], 3))
    assert (draw.measure(settings[0], 3) != Draw(world, 1).measure(settings[0], 3)).all()


@pytest.mark.parametrize("name", ["zdt1", "zdt2", "dtlz2"])
def test_the_whole_front_is_all_of_the_volume(name: str) -> None:
    x1 = np.linspace(0, 1, 400)
    front = np.column_stack([x1, np.full(400, 0.5 if name == "dtlz2" else 0.0)])
    assert WORLDS[name].share(front) == pytest.approx(1.0, abs=0.01)
    assert WORLDS[name].share(front[:200]) < 0.95


def test_branin_currin_agrees_with_botorch() -> None:
    pytest.importorskip("botorch", reason="in the dependency group benchmarks")
    import torch
    from botorch.test_functions.multi_objective import BraninCurrin

    settings = np.random.default_rng(0).random((20, 2))
    theirs = BraninCurrin(negate=True)
    ours = [WORLDS["branin-currin"].function(x) for x in settings]
    np.testing.assert_allclose(ours, theirs(torch.tensor(settings)).numpy(), rtol=1e-6)
    assert theirs.max_hv == WORLDS["branin-currin"].volume
    assert tuple(theirs.ref_point.tolist()) == WORLDS["branin-currin"].reference


def test_a_recorded_table_becomes_a_world_with_its_f_and_noise(tmp_path: Path) -> None:
    generator, space = np.random.default_rng(0), {"s": Range(low=1.0, high=2.0), "m": Range(low=0.0, high=0.1)}
    seeds = generator.normal(0, 0.05, 6)
    lines = ["s,m,seed,clean_accuracy,robust_accuracy"]
    for point in space_points(space, 32):
        for seed, effect in enumerate(seeds):
            robust = 0.2 + 0.2 * (float(point["s"]) - 1) + effect + generator.normal(0, 0.01)
            clean = 1.0 - 0.05 * float(point["s"]) + generator.normal(0, 0.001)
            lines.append(f"{point['s']},{point['m']},{seed},{clean},{robust}")
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    world = recorded(tmp_path / "table.csv")
    values = np.array([world.function(np.array([s, 0.5])) for s in (0.1, 0.9)])
    assert values[1, 1] - values[0, 1] == pytest.approx(0.8 * 0.2, abs=0.02)
    assert world.interaction_sds[1] == pytest.approx(0.01, rel=0.2)
    assert 0.02 < world.seed_sds[1] < 0.12
    line = np.column_stack([np.linspace(0, 1, 30), np.full(30, 0.5)])  # every s is on the front
    assert 0.9 < world.share(line) < 1.05
    # Scaled to its range the front is x + y = 1, and the reference -0.1: 0.41 x 1.1 - 0.31^2 / 2 of 1.1^2 - 1 / 2.
    assert world.share(line[:10]) == pytest.approx(0.57, abs=0.04)


def test_a_world_of_one_parameter_where_it_hardly_matters(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = ["radius,seed,clean_accuracy,robust_accuracy,standing"]
    lines += [
        f"{radius},{seed},{0.97 + generator.normal(0, 0.0003)},{0.4 + generator.normal(0, 0.001)},ff"
        for radius in np.linspace(0, 2, 5).tolist()
        for seed in range(6)
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    world = recorded(tmp_path / "table.csv")
    np.testing.assert_array_equal(world.function(np.array([0.3, 0.1])), world.function(np.array([0.3, 0.9])))
    # A difference below the smallest effect of interest costs next to nothing.
    assert world.share(np.array([[0.1, 0.5]])) == pytest.approx(world.share(np.array([[0.9, 0.5]])), abs=0.1)


def test_grids_are_trained_seed_by_seed() -> None:
    units = list(PARTS["mnist5k"].units())
    assert len(units) == 7 * 5 * 8
    assert [seed for _, seed in units[:36]] == [0] * 35 + [1]
    assert set(RECORDED) == set(PARTS)
    radii = {parameters["defence.epsilon"] for parameters, _ in PARTS["radius"].units()}
    assert len(radii) == 7
    assert (min(radii), max(radii)) == (0.0, 2.0)


def test_recommendations_rest_on_means_over_seeds() -> None:
    a, b = np.array([0.1, 0.1]), np.array([0.9, 0.9])
    measured = [
        Measured(a, 0, np.array([0.9, 0.1])),
        Measured(a, 1, np.array([0.9, 0.5])),
        Measured(b, 2, np.array([0.8, 0.2])),
        Measured(b, 3, np.array([0.8, 0.2])),
    ]
    recommended = front_of_means(2)([*measured, Measured(b, 4, np.array([1.0, 1.0]))])  # one seed of two does not count
    np.testing.assert_allclose(recommended.settings, [a])
    np.testing.assert_allclose(recommended.claims, [[0.9, 0.3]])


def test_the_noise_model_claims_less_than_the_best_measurement() -> None:
    draw, generator = Draw(WORLDS["flat"], 0), np.random.default_rng(0)
    measured = [Measured(x, seed, draw.measure(x, seed)) for x in generator.random((10, 2)) for seed in (0, 1)]
    claimed = front_of_noise_model(measured).claims[:, 1].max()
    assert claimed < front_of_means(2)(measured).claims[:, 1].max()


def test_one_seed_overclaims_where_nothing_matters() -> None:
    scores = [replayed("flat", "tpe", replay, 20) for replay in range(4)]
    assert min(score.overclaim for score in scores) > 3
    assert all(score.settings == 20 for score in scores)


def test_every_search_spends_the_same_units() -> None:
    for name, (run, _) in SEARCHES.items():
        if not name.startswith(("botorch", "syne-tune", "gp")):
            assert len(run(Draw(WORLDS["dtlz2"], 0), 9, 0)) == 9, name


def test_the_table_pairs_replays() -> None:
    lines = table([score("nehvi", 0, 80), score("nehvi", 1, 90), score("tpe", 0, 70), score("tpe", 1, 80)]).splitlines()
    assert "10.0 (10.0 to 10.0)" in lines[2]
    assert lines[1].split()[2:5] == ["2", "42.5", "85.0"]


def test_where_there_is_nothing_to_find_only_claims_are_compared() -> None:
    nothing = [
        replace(score(search, replay, math.nan), world="flat") for search in ("nehvi", "tpe") for replay in (0, 1)
    ]
    line = table(nothing).splitlines()[2]
    assert line.split() == [
        "flat",
        "tpe",
        "2",
        "nan",
        "nan",
        "1.0",
        "(1.0",
        "to",
        "1.0)",
        *["0.0", "(0.0", "to", "0.0)", "10.0", "0.10"],
    ]


def score(search: str, replay: int, share: float) -> Score:
    """A search whose share grows evenly to its end."""
    shares = [share * step / 8 for step in range(1, 9)]
    return Score("zdt1", search, 24, replay, shares, 1.0, 0.0, 10, 0.1)


def test_a_score_survives_its_row() -> None:
    assert Score.from_row(score("tpe", 3, 80).to_row()) == score("tpe", 3, 80)


def test_the_time_to_a_quality_counts_both_sides_units() -> None:
    quick, slow = [score("nehvi", 0, 80)], [score("tpe", 0, 40)]  # 40 is reached in half of the units
    units, ratio = reached(quick, slow)
    assert units == "12"
    assert float(ratio) == pytest.approx((12.0 + 12 * (3600 / 888 + 0.1)) / (21.1 + 24 * (3600 / 273 + 0.1)), abs=0.01)
    assert reached(slow, quick) == ("never", "")


@pytest.mark.slow
def test_the_benchmark_runs_and_continues_its_file(tmp_path: Path) -> None:
    pytest.importorskip("botorch", reason="in the dependency group benchmarks")
    file = tmp_path / "scores.csv"
    command = [sys.executable, "-m", "tests.benchmarks.search_quality", "--units", "9", "--worlds", "zdt1"]
    for replays in ("1", "2"):
        subprocess.run([*command, "--replays", replays, "--csv", str(file)], cwd=REPOSITORY, check=True, timeout=500)
    assert len(read(file)) == 2 * len(SEARCHES)
    assert list(OBJECTIVES) == ["clean_accuracy", "robust_accuracy"]


def test_the_noise_behind_the_chosen_number_of_images_is_that_of_the_recorded_digits() -> None:
    rows = read(FOLDER / "mnist5k.csv")
    units = [
        Observation(
            setting={"s": float(row["s"]), "m": float(row["m"])},
            seed=int(row["seed"]),
            value=float(row["robust_accuracy"]),
            outcomes=np.unpackbits(np.frombuffer(bytes.fromhex(row["standing"]), np.uint8))[:RECORDED_IMAGES] > 0,
        )
        for row in rows
    ]
    assert len(units) == 7 * 5 * 8
    components = fit(units, {"s": Range(low=1.0, high=2.0), "m": Range(low=0.0, high=0.1)}).components
    assert components.interaction == pytest.approx(INTERACTION, abs=0.2)
    assert components.images_per_unit == pytest.approx(IMAGE_NOISE, abs=0.1)


def test_settings_and_seeds_are_told_apart_in_a_table(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = ["s,seed,clean_accuracy,robust_accuracy,standing"]
    lines += [
        f"{s},{seed},{0.9 + generator.normal(0, 0.01)},{0.3 + 0.1 * seed + generator.normal(0, 0.01)},ff"
        for s in (0.0, 0.25, 0.5)
        for seed in range(3)
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    _, robust = analysis(tmp_path / "table.csv", 3)
    assert float(robust.partition(" between settings")[0].rpartition(" ")[2]) < 1
    assert 9 < float(robust.partition(" between seeds")[0].rpartition(" ")[2]) < 11
    assert "; n = 3 x 3; seed 0 alone: " in robust
