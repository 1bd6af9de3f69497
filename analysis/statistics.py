"""Confidence intervals and paired tests for accuracies and their differences.

Wilson 1927: Probable inference, the law of succession, and statistical inference. JASA 22.
Brown, Cai, DasGupta 2001: Interval estimation for a binomial proportion. Statistical Science 16.
Newcombe 1998: Interval estimation for the difference between independent proportions. Statistics in Medicine 17.
McNemar 1947: Note on the sampling error of the difference between correlated proportions. Psychometrika 12.
Student 1908: The probable error of a mean. Biometrika 6.
Spearman 1904: The proof and measurement of association between two things. American Journal of Psychology 15.
Bonett and Wright 2000: Sample size requirements for estimating Pearson, Kendall and Spearman correlations.
Psychometrika 65.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class McNemar(NamedTuple):
    """The discordant pairs of two classifiers on the same images, and their test.

    Args:
        only_first: Images that only the first classifier gets right.
        only_second: Images that only the second classifier gets right.
        p_value: Two-sided, exact.
    """

    only_first: int
    only_second: int
    p_value: float


class RankCorrelation(NamedTuple):
    """How well two measurements agree on the order of things.

    Args:
        rho: Spearman's rho, in [-1, 1]; NaN if either measurement is constant.
        interval: The interval of rho, within [-1, 1]; all of it if rho is NaN.
        n: The number of things.
    """

    rho: float
    interval: Interval
    n: int


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion, e.g. an accuracy over ``n`` images.

    Args:
        successes: The number of successes, in [0, n].
        n: Independent trials, at least 1.
        confidence: Coverage, in (0, 1).

    Returns:
        The interval, within [0, 1]. It contains ``successes / n`` and never has zero width.

    Raises:
        ValueError: An argument is outside its range.

    Source:
        Wilson 1927; Brown, Cai and DasGupta 2001, Eq. 4.
    """
    from statsmodels.stats.proportion import proportion_confint

    _check_confidence(confidence)
    _check_counts(successes, n)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # In exact arithmetic the bounds reach 0 and 1 at p = 0 and p = 1; rounding must not carry them past p.
    return Interval(min(float(low), successes / n), max(float(high), successes / n))


def difference_interval(first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95) -> Interval:
    """The interval of the difference of two independent proportions, e.g. an accuracy on two sets of images.

    Args:
        first: Successes and trials, as for ``wilson_interval``.
        second: Successes and trials of the other proportion.
        confidence: Coverage, in (0, 1).

    Returns:
        The interval of first minus second, within [-1, 1]. If it lies above 0, the first is larger by more than
        chance, with an error rate of (1 - confidence) / 2.

    Raises:
        ValueError: An argument is outside its range.

    Source:
        Newcombe 1998, method 10, which combines the two Wilson intervals.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    _check_confidence(confidence)
    for successes, n in (first, second):
        _check_counts(successes, n)
    low, high = confint_proportions_2indep(*first, *second, method="newcomb", compare="diff", alpha=1 - confidence)
    return Interval(float(low), float(high))


def student_interval(values: Sequence[float] | npt.NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The t interval of a mean, e.g. of an accuracy over training seeds.

    A bootstrap is too narrow for the 3 to 5 seeds that are affordable.

    Args:
        values: At least two independent measurements, in any unit.
        confidence: Coverage, in (0, 1).

    Returns:
        The interval, centred on the mean, in the unit of ``values``.

    Raises:
        ValueError: There are fewer than two values, or ``confidence`` is outside its range.

    Source:
        Student 1908.
    """
    from scipy.stats import sem, t

    _check_confidence(confidence)
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) < 2:
        raise ValueError(f"values must hold at least two, got {len(sample)}; train with two or more replicates")
    mean = float(sample.mean())
    half = float(t.ppf((1 + confidence) / 2, len(sample) - 1)) * float(sem(sample))
    return Interval(mean - half, mean + half)


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike, confidence: float = 0.95) -> RankCorrelation:
    """Spearman's rank correlation, e.g. of a cheap and a full robust accuracy over the same settings.

    Args:
        first: One measurement of each thing, shape (n,), in any unit; equal values share their mean rank.
        second: The other measurement, shape (n,).
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The correlation and its interval.

    Raises:
        ValueError: The shapes differ, there are fewer than five things, or ``confidence`` is outside its range.

    Source:
        Spearman 1904. The interval is Fisher's transformation with the variance (1 + rho^2 / 2) / (n - 3) of Bonett
        and Wright 2000, which keeps its coverage up to about 0.95.
    """
    from scipy.stats import spearmanr

    _check_confidence(confidence)
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"second must have one value for each of the first's {x.shape}, got {y.shape}; pair them")
    n = len(x)
    if n < 5:
        raise ValueError(f"first must hold at least five values, got {n}; measure more settings")
    if len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        return RankCorrelation(math.nan, Interval(-1.0, 1.0), n)
    rho = float(np.clip(spearmanr(x, y).statistic, -1.0, 1.0))
    # Fisher's transformation is infinite at 1. Use the next smaller value there, which is one exchanged pair.
    limit = 1 - 6 / (n * (n * n - 1))
    finite = max(-limit, min(limit, rho))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt((1 + finite**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(finite) - half), math.tanh(math.atanh(finite) + half)
    return RankCorrelation(rho, Interval(min(low, rho), max(high, rho)), n)


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> McNemar:
    """Tests whether two classifiers differ on the same images: the exact binomial test of the discordant pairs.

    Args:
        first: Whether the first classifier is right, image by image. Shape (n,), boolean.
        second: Whether the second classifier is right. Shape (n,), boolean.

    Returns:
        The counts of discordant pairs and the two-sided exact p-value; 1 if there are none.

    Raises:
        ValueError: The shapes differ.

    Source:
        McNemar 1947, with the binomial distribution in place of its chi-squared approximation.
    """
    from statsmodels.stats.contingency_tables import mcnemar as exact_test

    right_first, right_second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if right_first.ndim != 1 or right_first.shape != right_second.shape:
        raise ValueError(
            f"first and second must be vectors over the same images, got shapes {right_first.shape} and "
            f"{right_second.shape}; compare outcomes of one validation split"
        )
    only_first = int(np.sum(right_first & ~right_second))
    only_second = int(np.sum(right_second & ~right_first))
    p_value = float(exact_test([[0, only_first], [only_second, 0]], exact=True).pvalue)
    return McNemar(only_first, only_second, min(1.0, p_value))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence:g}; 0.95 is usual")


def _check_counts(successes: int, n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}; an interval needs a trial")
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in [0, {n}], got {successes}; count the successes of the n trials")
