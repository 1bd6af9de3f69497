from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.noise import (
    Components,
    Observation,
    Setting,
    best_images,
    confirmed_difference,
    confirmed_mean,
    coordinates_of,
    fit,
    points_at,
    setting_text,
    space_points,
)
from analysis.statistics import seeds_and_images_interval
from tests.analysis.planted import INTERACTION_SD, SEED_SD, SPACE, Sweep, flat, scattered, trend, with_images
from trainables.settings.space import Choices, Domain, Range

MIXED: dict[str, Domain] = {
    "rate": Range(low=1e-4, high=1e-1, log=True),
    "width": Range(low=1, high=4, integer=True),
    "name": Choices(choices=("a", "b", "c")),
}


def test_planted_components_are_found() -> None:
    generator = np.random.default_rng(0)
    settings = scattered(20, generator)
    seeds, interactions = [], []
    for _ in range(3):
        found = fit(Sweep(truth=trend(0.05)).units(settings, range(24), generator), SPACE).components
        assert found.seed is not None
        assert found.interaction is not None
        seeds.append(found.seed)
        interactions.append(found.interaction)
        assert found.images_shared is found.images_per_unit is None
    # 24 seeds give a standard deviation to within 15 %, three times as many to within 9 %.
    assert np.mean(seeds) == pytest.approx(100 * SEED_SD, rel=0.25)
    assert np.mean(interactions) == pytest.approx(100 * INTERACTION_SD, rel=0.1)


def test_the_images_parts_are_those_that_were_planted() -> None:
    generator = np.random.default_rng(0)
    observations = with_images(scattered(8, generator), range(6), 400, generator)
    found = fit(observations, SPACE).components
    # Without noise: the variance of an image's mean, and what is left of one outcome's.
    logits = np.random.default_rng(1).normal(0, 3, 200_000) - 0.8
    share = 1 / (1 + np.exp(-logits))
    assert found.images_shared == pytest.approx(100 * math.sqrt(share.var() / 400), rel=0.15)
    assert found.images_per_unit == pytest.approx(100 * math.sqrt((share * (1 - share)).mean() / 400), rel=0.15)


def test_shared_images_widen_a_value_and_no_difference() -> None:
    generator = np.random.default_rng(0)
    settings = scattered(6, generator)
    observations = with_images(settings, range(5), 200, generator)
    known = fit(observations, SPACE)
    unknown = fit([replace(seen, outcomes=None) for seen in observations], SPACE)
    first, second = settings[:2]
    wide, narrow = (model.posterior([first]).combination([1.0]).sd for model in (known, unknown))
    shared = known.components.images_shared
    assert shared is not None
    assert wide == pytest.approx(math.hypot(narrow, shared / 100), rel=0.15)
    ends = [model.paired_difference(first, second).interval for model in (known, unknown)]
    assert tuple(ends[0]) == pytest.approx(tuple(ends[1]), abs=0.01)


def test_common_seeds_make_differences_paired() -> None:
    """Seed effects ten times the interaction leave the difference as certain as without them."""
    sds = []
    for seed_sd in (0.0, 0.2):
        generator = np.random.default_rng(0)
        settings = [*scattered(8, generator), "SCE"]
        units = Sweep(seed_sd=seed_sd, interaction_sd=0.02).units(settings, range(6), generator)
        interval = fit(units, SPACE).paired_difference(settings[0], "SCE").interval
        sds.append(interval.high - interval.low)
    assert sds[1] == pytest.approx(sds[0], rel=0.3)


def test_an_unlucky_setting_is_not_blamed_for_its_seeds() -> None:
    """With missing cells: A has the good seeds, B the bad ones, and other settings show which seeds are good."""
    effects = dict(enumerate(np.linspace(-0.1, 0.1, 8).tolist()))
    a, b, *others = scattered(8, np.random.default_rng(0))
    generator = np.random.default_rng(1)
    cells = [(a, seed) for seed in range(4, 8)] + [(b, seed) for seed in range(4)]
    cells += [(other, seed) for other in others for seed in range(8)]
    units = [
        Observation(setting=setting, seed=seed, value=0.5 + effects[seed] + float(generator.normal(0, 0.01)))
        for setting, seed in cells
    ]
    low, high = fit(units, SPACE).paired_difference(a, b).interval
    assert low < 0 < high
    assert high - low < 0.05  # the raw means differ by 0.11


def test_a_baseline_has_a_value_of_its_own() -> None:
    generator = np.random.default_rng(0)
    settings = [*scattered(10, generator), "SCE", "far"]
    units = Sweep(baseline=0.42).units(settings, range(8), generator)
    units = [replace(seen, value=seen.value - 0.3) if seen.setting == "far" else seen for seen in units]
    model = fit(units, SPACE)
    assert model.baselines == ("SCE", "far")
    means = model.posterior(["SCE", "far"]).mean
    raw = [np.mean([seen.value for seen in units if seen.setting == name]) for name in model.baselines]
    np.testing.assert_allclose(means, raw, atol=0.005)  # all have the same seeds
    assert model.paired_difference("SCE", settings[0]).above > 0.95
    # The order of the settings is the order of the answer.
    mixed = model.posterior(["far", settings[3], "SCE"])
    np.testing.assert_allclose(mixed.mean[[2, 0]], means, rtol=1e-9)


def test_an_unseen_seed_varies_by_all_that_seeds_do() -> None:
    generator = np.random.default_rng(0)
    settings = scattered(12, generator)
    model = fit(Sweep().units(settings, range(16), generator), SPACE)
    f, unseen = (np.asarray(each(settings[:2]).covariance) for each in (model.posterior, model.posterior_unseen_seed))
    added = unseen - f
    seed, interaction = model.components.seed, model.components.interaction
    assert seed is not None
    assert interaction is not None
    # The variances are means of their posterior, above the medians that the components state.
    assert added[0, 1] == pytest.approx((seed / 100) ** 2, rel=0.25)
    assert added[0, 0] - added[0, 1] == pytest.approx((interaction / 100) ** 2, rel=0.05)


def test_one_seed_says_so() -> None:
    generator = np.random.default_rng(0)
    settings = scattered(8, generator)
    model = fit(with_images(settings, [3], 100, generator), SPACE)
    assert model.this_network_only
    assert model.components.seed is model.components.interaction is None
    assert "this network only" in model.components.sentence
    with pytest.raises(ValueError, match="two or more seeds, got 1; train"):
        model.posterior_unseen_seed(settings)


def test_seeds_that_no_two_settings_share_are_not_separated_from_the_interaction() -> None:
    generator = np.random.default_rng(0)
    units = [
        replace(seen, seed=index) for index, seen in enumerate(Sweep().units(scattered(40, generator), [0], generator))
    ]
    jittered = [replace(seen, value=seen.value + float(generator.normal(0, SEED_SD))) for seen in units]
    components = fit(jittered, SPACE).components
    assert components.seed is None
    assert components.interaction == pytest.approx(100 * math.hypot(SEED_SD, INTERACTION_SD), rel=0.3)
    assert "shared and per setting" in components.sentence


@pytest.mark.parametrize("right", [True, False])
def test_constant_outcomes_are_not_certain(right: bool) -> None:
    settings = scattered(4, np.random.default_rng(0))
    outcomes = np.full(50, right)
    units = [
        Observation(setting=setting, seed=seed, value=float(right), outcomes=outcomes)
        for setting in settings
        for seed in range(3)
    ]
    model = fit(units, SPACE)
    f = model.posterior(settings[:1]).combination([1.0])
    assert f.mean == pytest.approx(float(right))
    assert 0.01 < f.sd < 0.05
    assert math.isfinite(model.paired_difference(*settings[:2]).interval.high)


def test_one_unit_is_enough() -> None:
    (setting,) = scattered(1, np.random.default_rng(0))
    model = fit([Observation(setting=setting, seed=0, value=0.5)], SPACE)
    assert model.posterior([setting]).mean == pytest.approx([0.5])


def test_one_setting_with_several_seeds_has_their_spread() -> None:
    generator = np.random.default_rng(0)
    units = Sweep().units(scattered(1, generator), range(12), generator)
    model = fit(units, SPACE)
    values = np.array([seen.value for seen in units])
    assert model.posterior([units[0].setting]).mean == pytest.approx(values.mean(), abs=0.005)
    assert model.components.interaction == pytest.approx(100 * values.std(ddof=1), rel=0.25)


def test_mixed_parameters_are_learnt() -> None:
    generator = np.random.default_rng(0)
    settings = space_points(MIXED, 32)
    levels = {"a": 0.0, "b": 0.1, "c": -0.1}
    effects = generator.normal(0, SEED_SD, 4)
    units = [
        Observation(
            setting=setting,
            seed=seed,
            value=float(0.5 + levels[str(setting["name"])] + effects[seed] + generator.normal(0, 0.01)),
        )
        for setting in settings
        for seed in range(4)
    ]
    model = fit(units, MIXED)
    at: list[Setting] = [{"rate": 1e-2, "width": 2, "name": name} for name in "abc"]
    f = model.posterior(at).mean
    np.testing.assert_allclose(f - f[0], [0, 0.1, -0.1], atol=0.02)


def test_points_fill_the_space_and_lie_in_it() -> None:
    points = space_points(MIXED, 64)
    assert all(domain.contains(point[name]) for point in points for name, domain in MIXED.items())
    assert {point["width"] for point in points} == {1, 2, 3, 4}
    assert {point["name"] for point in points} == {"a", "b", "c"}
    assert np.median([math.log10(float(point["rate"])) for point in points]) == pytest.approx(-2.5, abs=0.1)
    assert points == space_points(MIXED, 64)


def test_foresight_is_how_far_a_unit_moves_the_means() -> None:
    """Against new fits with two outcomes of that unit, with enough units that no hyperparameter moves much."""
    generator = np.random.default_rng(0)
    settings = scattered(12, generator)
    units = Sweep(truth=trend(0.4)).units(settings, range(8), generator)
    model = fit(units, SPACE)
    for seed in (2, 99):
        expected = model.foresight(settings, settings[0], seed)
        outcome = model.posterior([settings[0]]).mean[0]
        means = [
            fit([*units, Observation(setting=settings[0], seed=seed, value=outcome + shift)], SPACE)
            .posterior(settings)
            .mean
            for shift in (-0.02, 0.02)
        ]
        # The means are about linear in the outcome: their slopes are the shifts. The setting's own mean moves most.
        slope = (means[1] - means[0]) / 0.04
        assert np.argmax(np.abs(slope)) == np.argmax(np.abs(expected)) == 0
        assert np.corrcoef(slope, expected)[0, 1] > 0.9


def test_a_known_seed_teaches_more_about_a_setting_than_a_new_one() -> None:
    generator = np.random.default_rng(0)
    settings = scattered(8, generator)
    new = scattered(9, generator)[8]
    model = fit(Sweep(truth=trend(0.2)).units(settings, range(8), generator), SPACE)
    contrast = [model.foresight([new, settings[0]], new, seed) @ [1, -1] for seed in (0, 99)]
    assert contrast[0] > contrast[1] > 0


def test_running_units_count_as_known() -> None:
    generator = np.random.default_rng(0)
    settings = scattered(6, generator)
    model = fit(Sweep(truth=trend(0.3)).units(settings, range(3), generator), SPACE)
    units: list[tuple[Setting, int]] = [(settings[0], 7), (settings[1], 8)]
    alone = np.array([model.foresight(settings, *unit) for unit in units])
    np.testing.assert_allclose(model.foresights(settings, units), alone)
    after = model.foresights(settings, units, units[:1])
    assert abs(after[0, 0]) < abs(alone[0, 0])  # another one like it moves the mean less
    both = model.foresights(settings, units[:1], [(settings[1], 8), (settings[2], 8)])
    turned = model.foresights(settings, units[:1], [(settings[2], 8), (settings[1], 8)])
    np.testing.assert_allclose(both, turned)


@pytest.mark.parametrize("space", [SPACE, MIXED], ids=["numbers", "mixed"])
def test_coordinates_of_is_the_inverse_of_points_at(space: dict[str, Domain]) -> None:
    points = space_points(space, 64)
    coordinates = coordinates_of(space, points)
    assert ((coordinates >= 0) & (coordinates <= 1)).all()
    for point, again in zip(points, points_at(space, coordinates), strict=True):
        assert again == {name: pytest.approx(value) for name, value in point.items()}


def test_confirmation_pairs_common_seeds() -> None:
    generator = np.random.default_rng(0)
    a, b, c = scattered(3, generator)
    units = with_images([a, b], range(6), 200, generator)
    found = confirmed_difference([*units[1:], *with_images([c], [7, 8], 200, generator)], a, b)
    assert found is not None
    difference, seeds = found
    assert seeds == 5
    values = [[seen.value for seen in units if seen.setting == each][1:] for each in (a, b)]
    assert difference.mean == pytest.approx(np.mean(values[0]) - np.mean(values[1]))
    assert confirmed_difference(units, a, c) is confirmed_difference(units, a, a) is None
    mean = confirmed_mean(units, a)
    assert mean is not None
    own = np.array([seen.outcomes for seen in units if seen.setting == a])
    assert mean[1] == seeds_and_images_interval(own)


def test_wrong_units_are_named() -> None:
    (setting,) = scattered(1, np.random.default_rng(0))
    good = Observation(setting=setting, seed=0, value=0.5)
    with pytest.raises(ValueError, match="a setting of the space, got none; finish"):
        fit([replace(good, setting="SCE")], SPACE)
    with pytest.raises(ValueError, match="every parameter, got none for m; add"):
        fit([replace(good, setting={"s": 1.0})], SPACE)
    with pytest.raises(ValueError, match="must be finite, got nan"):
        fit([replace(good, value=math.nan)], SPACE)
    with pytest.raises(ValueError, match="same images"):
        fit([good, replace(good, seed=1, outcomes=np.ones(4, dtype=np.bool_))], SPACE)
    with pytest.raises(ValueError, match="one of none, got SCE; measure"):
        fit([good], SPACE).posterior(["SCE"])


def test_a_setting_as_text() -> None:
    assert setting_text({"s": 1.6, "m": 0.05}) == "s = 1.6, m = 0.05"
    assert setting_text("SCE") == "SCE"


def coverage(truth: object, runs: int, settings: int, seeds: int, seed: int = 0) -> tuple[float, float]:
    """How often 95 % intervals of f and of paired differences contain the truth, with a fifth of the units missing."""
    generator = np.random.default_rng(seed)
    f, difference = [], []
    for _ in range(runs):
        sweep = Sweep(truth=random_surface(generator)) if truth == "random" else Sweep(truth=flat)
        points = scattered(settings, generator)
        units = sweep.units(points, range(seeds), generator, kept=0.8)
        model = fit(units, SPACE)
        first, second = (points[index] for index in generator.choice(settings, 2, replace=False))
        low, high = model.posterior([first]).combination([1.0]).interval()
        f.append(low <= sweep.value(first) <= high)
        low, high = model.paired_difference(first, second).interval
        difference.append(low <= sweep.value(first) - sweep.value(second) <= high)
    return float(np.mean(f)), float(np.mean(difference))


def random_surface(generator: np.random.Generator):  # type: ignore[no-untyped-def]
    """A smooth random function of a few points' size."""
    a, b, c, d = generator.normal(0, 0.05, 4)
    return lambda p: (
        0.34 + a * (x := (p["s"] - 1) / 3) + b * (y := p["m"] / 0.2) + c * math.cos(4 * x + 9 * d) * y + d * x * x
    )


def test_intervals_cover() -> None:
    f, difference = coverage("random", 60, 8, 5)
    assert f >= 0.87  # 60 runs: 0.03 is one standard error
    assert difference >= 0.87


def test_a_range_without_its_low_end_begins_above_it() -> None:
    space = {"m": Range(low=0.0, high=0.1, low_exclusive=True), "s": Range(low=1.0, high=2.0)}
    assert points_at(space, np.zeros((1, 2))) == [{"m": pytest.approx(0.0001), "s": 1.0}]


@pytest.mark.slow
def test_intervals_cover_in_many_sweeps() -> None:
    f, difference = coverage("random", 1000, 10, 6)
    assert f >= 0.93  # six seeds leave the level to a wide prior of their spread: f is covered more often than stated
    assert difference == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_intervals_of_a_flat_function_cover() -> None:
    """Differences are shrunk towards their true value, zero, and covered nearly always."""
    f, difference = coverage("flat", 1000, 10, 6)
    assert f >= 0.93  # above 0.95 for the same reason as in the test before
    assert difference >= 0.95


def test_the_best_number_of_images_says_most_for_the_work() -> None:
    components = Components(seed=5.0, interaction=3.0, images_shared=2.0, images_per_unit=2.0)
    training, attack = 40_000.0, 300.0
    best = best_images(components, 200, training, attack)

    def price(images: int) -> float:
        return (3.0**2 + 2.0**2 * 200 / images) * (training + attack * images)

    assert best == min(range(1, 2000), key=price)
    assert best_images(replace(components, images_per_unit=None), 200, training, attack) is None
    assert best_images(replace(components, interaction=None), 200, training, attack) is None
