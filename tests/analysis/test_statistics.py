from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from analysis.statistics import (
    Interval,
    difference_interval,
    holm,
    mean_squares,
    paired_difference,
    rank_correlation,
    seeds_and_images_interval,
    seeds_interval,
    student_interval,
    wilson_interval,
)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_is_statsmodels(n: int, share: float) -> None:
    successes = round(share * n)
    expected = proportion_confint(successes, n, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_holds_the_proportion_and_mirrors(n: int, share: float) -> None:
    successes = round(share * n)
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high > low
    mirrored = wilson_interval(n - successes, n)
    assert (1 - high, 1 - low) == pytest.approx(tuple(mirrored), abs=1e-12)


def test_wilson_at_the_ends_in_closed_form() -> None:
    z2 = scipy.stats.norm.ppf(0.975) ** 2
    assert wilson_interval(0, 10) == pytest.approx((0, z2 / (10 + z2)))
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + z2), 1))


def test_student_with_two_values_is_the_cauchy_quantile() -> None:
    # With one degree of freedom the quantile is tan(pi (p - 1/2)); two values a, b have standard error |a - b| / 2.
    half = math.tan(math.pi * 0.475) * 0.01
    assert student_interval([0.95, 0.97]) == pytest.approx((0.96 - half, 0.96 + half))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20).filter(lambda values: np.std(values) > 1e-6))
def test_student_is_scipys(values: list[float]) -> None:
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe 1998, table II, method 10."""
    assert difference_interval(first, second) == pytest.approx((low, high), abs=5e-5)
    assert difference_interval(second, first) == pytest.approx((-high, -low), abs=5e-5)


def test_equal_proportions_rarely_seem_to_differ() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(500, 0.35, size=(4000, 2)).tolist()
    above = np.mean([difference_interval((first, 500), (second, 500)).low > 0 for first, second in draws])
    assert 0.015 < above < 0.035  # 2.5 % on this side


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=5, max_size=40))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    correlation = rank_correlation(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert math.isnan(correlation.rho)
        assert correlation.interval == (-1, 1)
        return
    assert correlation.rho == pytest.approx(scipy.stats.spearmanr(first, second).statistic, abs=1e-12)
    assert -1 <= correlation.interval.low <= correlation.rho <= correlation.interval.high <= 1
    assert correlation.interval.low < correlation.interval.high


def test_rank_correlations_interval_covers() -> None:
    # Normal pairs of correlation r have Spearman's rho 6 / pi asin(r / 2).
    rng = np.random.default_rng(0)
    rho, covered, runs = 0.8, 0, 400
    r = 2 * math.sin(math.pi * rho / 6)
    for _ in range(runs):
        first = rng.standard_normal(20)
        second = r * first + math.sqrt(1 - r * r) * rng.standard_normal(20)
        low, high = rank_correlation(first, second).interval
        covered += low <= rho <= high
    assert 0.92 <= covered / runs <= 0.98


def outcomes(
    rng: np.random.Generator, seeds: int, images: int, logit: float, between_seeds: float, between_images: float
) -> npt.NDArray[np.bool_]:
    """Right answers of networks whose seeds are better or worse, on images that are easy or difficult for all."""
    logits = logit + rng.normal(0, between_seeds, (seeds, 1)) + rng.normal(0, between_images, (1, images))
    return rng.random((seeds, images)) < 1 / (1 + np.exp(-logits))


def covered(interval: Callable[[npt.NDArray[np.bool_]], Interval], *setting: Any) -> float:
    rng = np.random.default_rng(0)
    truth = outcomes(rng, 2000, 2000, *setting[2:]).mean()
    draws = [interval(outcomes(rng, *setting)) for _ in range(600)]
    return float(np.mean([low <= truth <= high for low, high in draws]))


@pytest.mark.parametrize(
    "setting",
    [
        (5, 500, -0.8, 0.3, 3.0),
        (5, 500, -0.8, 0.0, 3.0),
        (3, 500, -0.8, 0.3, 3.0),
        (3, 200, 2.0, 0.3, 2.0),
        (8, 200, 2.0, 0.3, 2.0),
    ],
)
def test_the_intervals_over_seeds_and_images_cover(setting: tuple[Any, ...]) -> None:
    # 3,000 draws give 95 to 97 %; one standard deviation of these 600 is 0.8 %.
    assert 0.93 <= covered(seeds_and_images_interval, *setting) <= 0.99
    assert covered(lambda kept: seeds_interval(kept.mean(1).tolist(), kept.shape[1]), *setting) >= 0.93


def test_a_t_interval_over_seeds_ignores_that_they_share_the_images() -> None:
    assert covered(lambda kept: student_interval(kept.mean(1)), 5, 500, -0.8, 0.0, 3.0) < 0.8


def test_seeds_that_always_agree_have_the_images_interval() -> None:
    kept = np.repeat(np.random.default_rng(0).random((1, 500)) < 0.7, 4, axis=0)
    low, high = seeds_and_images_interval(kept)
    wilson = wilson_interval(int(kept[0].sum()), 500)
    assert (low, high) == pytest.approx(tuple(wilson), abs=0.004)
    assert seeds_interval(kept.mean(axis=1).tolist(), 500) == pytest.approx((low, high), abs=0.001)


def test_what_never_varies_has_an_interval_of_no_width() -> None:
    assert seeds_and_images_interval(np.ones((3, 20), dtype=np.bool_)) == (1, 1)
    assert seeds_interval([0.0, 0.0], 20) == (0, 0)


def test_mean_squares_are_those_of_statsmodels() -> None:
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = outcomes(np.random.default_rng(0), 4, 12, 0.0, 1.0, 2.0)
    units, images = np.indices(table.shape)
    frame = pd.DataFrame({"right": table.ravel().astype(float), "unit": units.ravel(), "image": images.ravel()})
    anova = anova_lm(ols("right ~ C(unit) + C(image)", frame).fit())
    assert tuple(mean_squares(table)) == pytest.approx(tuple(anova["sum_sq"] / anova["df"]))


def paired_outcomes(rng: np.random.Generator, seeds: int, effect: float) -> tuple[Any, Any]:
    """Two settings with the same seeds and images; on each image one of the two is a little better."""
    seed, image = rng.normal(0, 0.4, (seeds, 1)), rng.normal(0, 3, (1, 300))
    logits = [seed + image + rng.normal(shift, 0.3, (seeds, 1)) + rng.normal(0, 0.8, (1, 300)) for shift in (effect, 0)]
    first, second = (rng.random((seeds, 300)) < 1 / (1 + np.exp(-each)) for each in logits)
    return first, second


@pytest.mark.parametrize("seeds", [3, 5])
def test_paired_differences_cover_and_hold_their_size(seeds: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [paired_difference(*paired_outcomes(rng, seeds, 0.0)) for _ in range(600)]
    assert np.mean([d.interval.low <= 0 <= d.interval.high for d in drawn]) == pytest.approx(0.95, abs=0.03)
    assert np.mean([d.p <= 0.05 for d in drawn]) <= 0.08


def test_pairing_shows_a_difference_that_independent_intervals_hide() -> None:
    first, second = paired_outcomes(np.random.default_rng(0), 5, 0.6)
    paired, alone = paired_difference(first, second), [seeds_and_images_interval(each) for each in (first, second)]
    assert paired.p < 0.05
    assert paired.interval.low > 0
    assert alone[0].low < alone[1].high


def test_values_without_outcomes_have_the_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    first, second = np.random.default_rng(0).normal(size=(2, 6))
    theirs, ours = ttest_rel(first, second), paired_difference(first, second)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert tuple(ours.interval) == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize("shape", [(2,), (2, 8)])
def test_a_difference_that_never_varies_is_no_evidence(shape: tuple[int, ...]) -> None:
    difference = paired_difference(np.ones(shape), np.zeros(shape))
    assert difference == (1.0, (1.0, 1.0), 1.0)


def test_holms_test_is_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(0)
    for _ in range(20):
        p = (rng.random(4) ** 3).tolist()
        assert holm(p) == multipletests(p, 0.05, method="holm")[0].tolist()
    assert holm([0.03, 0.04]) == [False, False]
