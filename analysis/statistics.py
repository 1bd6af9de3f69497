"""Two-sided 95 % confidence intervals of accuracies, of their differences, and of rank correlations.

Wilson 1927: Probable inference, the law of succession, and statistical inference. JASA 22.
Brown, Cai, DasGupta 2001: Interval estimation for a binomial proportion. Statistical Science 16.
Newcombe 1998: Interval estimation for the difference between independent proportions. Statistics in Medicine 17.
Student 1908: The probable error of a mean. Biometrika 6.
Searle, Casella, McCulloch 1992: Variance Components. Wiley.
Holm 1979: A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.
Krishnamoorthy 2016: Modified normal-based approximation to the percentiles of linear combination of independent random
variables with applications. Communications in Statistics - Simulation and Computation 45.
Satterthwaite 1946: An approximate distribution of estimates of variance components. Biometrics Bulletin 2.
Spearman 1904: The proof and measurement of association between two things. American Journal of Psychology 15.
Bonett, Wright 2000: Sample size requirements for estimating Pearson, Kendall and Spearman correlations. Psychometrika
65.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

_COVERAGE: Final = 0.95


class Interval(NamedTuple):
    """A two-sided confidence interval."""

    low: float
    high: float


class RankCorrelation(NamedTuple):
    """How well two measurements agree on the order of things."""

    rho: float  # Spearman's, in [-1, 1]; NaN if either measurement is constant
    interval: Interval  # of rho, within [-1, 1]; all of it if rho is NaN
    n: int  # the number of things


@cache
def wilson_interval(successes: int, n: int) -> Interval:
    """The interval of a proportion, e.g. an accuracy over ``n`` images: Wilson's score interval.

    It lies within [0, 1], contains ``successes / n`` and never has zero width.

    Source:
        Wilson 1927; recommended by Brown, Cai and DasGupta 2001.
    """
    from scipy.stats import binomtest  # statsmodels, which has it too, takes seconds to import

    low, high = binomtest(successes, n).proportion_ci(_COVERAGE, method="wilson")
    # In exact arithmetic the bounds reach 0 and 1 at p = 0 and p = 1; rounding must not carry them past p.
    return Interval(min(float(low), successes / n), max(float(high), successes / n))


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """The interval of the difference of two independent proportions, e.g. an accuracy on two sets of images.

    Each is given as successes and trials. The interval of first minus second lies within [-1, 1]. If it lies above 0,
    the first is larger by more than chance, with an error rate of 2.5 %.

    Source:
        Newcombe 1998, method 10, which combines the two Wilson intervals.
    """
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(*first, *second, method="newcomb", compare="diff", alpha=1 - _COVERAGE)
    return Interval(float(low), float(high))


def student_interval(values: Sequence[float] | npt.NDArray[np.float64]) -> Interval:
    """The t interval (Student 1908) of a mean, e.g. of an accuracy over training seeds.

    It needs at least two independent values. A bootstrap is too narrow for the 3 to 5 seeds that are affordable.
    """
    from scipy.stats import sem, t

    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    half = float(t.ppf((1 + _COVERAGE) / 2, len(sample) - 1)) * float(sem(sample))
    return Interval(mean - half, mean + half)


class MeanSquares(NamedTuple):
    """The mean squares of a two-way analysis of variance of outcomes by unit and image, without replication."""

    units: float
    images: float
    rest: float


class Difference(NamedTuple):
    """A difference of two means that were measured in pairs."""

    mean: float
    interval: Interval  # at 95 %
    p: float  # two-sided, for the hypothesis of no difference


def mean_squares(outcomes: npt.NDArray[Any]) -> MeanSquares:
    """How much outcomes vary between units, between images, and beyond both.

    Args:
        outcomes: Whether each unit classifies each image correctly, or the difference of two such arrays. Shape (units,
            images), at least two of each.

    Source:
        Searle, Casella and McCulloch 1992: the two-way crossed classification, balanced.
    """
    units, images = outcomes.shape
    table = outcomes.astype(np.float64)
    mean, by_unit, by_image = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - by_unit[:, np.newaxis] - by_image + mean
    return MeanSquares(
        float(images * by_unit.var(ddof=1)),
        float(units * by_image.var(ddof=1)),
        float((rest**2).sum()) / ((units - 1) * (images - 1)),
    )


def seeds_and_images_interval(kept: npt.NDArray[np.bool_]) -> Interval:
    """The interval of an accuracy for another training seed and other images of the same kind, within [0, 1].

    All seeds see the same images, and what is difficult for one is mostly difficult for all. That part of the error
    does not shrink with more seeds, so the t interval over seeds is far too narrow. Seeds and images are two crossed
    random effects without replication. Simulated coverage: 95 to 97 % with three or more seeds, up to 99 % with two.

    Args:
        kept: Whether each image is classified correctly, bool (seeds, images), at least two of each.

    Source:
        The mean squares of a two-way analysis of variance. The sum of the two errors has the quantiles of
        Krishnamoorthy 2016. With the degrees of freedom of Satterthwaite 1946, intervals are too short: a part that is
        small by chance counts too little, and seems to be well known.
    """
    mean, error, freedom = _over_seeds_and_images(kept)
    low, high = _t_interval(mean, error, freedom)
    return Interval(max(low, 0.0), min(high, 1.0))


def paired_difference(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> Difference:
    """The difference of two settings' accuracies, first minus second, for another training seed.

    The two were trained with the same seeds and measured on the same images, so what is common to both cancels. Where
    the outcomes on each image are known, the interval holds for other images too. A difference that is the same for all
    seeds and images has an interval of no width; it is no evidence, and its p-value is 1.

    Args:
        first: Whether each image is classified correctly, bool (seeds, images), at least two of each; or each seed's
            value, float (seeds,).
        second: The same for the other setting, of the same shape.

    Source:
        As for `seeds_and_images_interval`; Student 1908 where only the values are known.
    """
    from scipy.stats import sem, t

    differences = np.subtract(first, second, dtype=np.float64)
    of_images = differences.ndim == 2
    if of_images:
        mean, error, freedom = _over_seeds_and_images(differences)
    else:
        mean, error, freedom = float(differences.mean()), float(sem(differences)), len(differences) - 1
    p = float(2 * t.sf(abs(mean) / error, freedom)) if error > 0 else 1.0
    low, high = _t_interval(mean, error, freedom)
    return Difference(mean, Interval(max(low, -1.0), min(high, 1.0)) if of_images else Interval(low, high), p)


def holm(p: Sequence[float]) -> list[bool]:
    """Which of several hypotheses are rejected, with a chance of at most 5 % that any true one is among them.

    Args:
        p: The p-value of each hypothesis, in [0, 1].

    Source:
        Holm 1979.
    """
    rejected = [False] * len(p)
    for rank, index in enumerate(np.argsort(p, kind="stable").tolist()):
        if p[index] > (1 - _COVERAGE) / (len(p) - rank):
            break
        rejected[index] = True
    return rejected


def seeds_interval(values: Sequence[float], images: int) -> Interval:
    """As `seeds_and_images_interval`, where only each seed's accuracy over the same ``images`` is known.

    It assumes that the seeds fail on the same images, and is therefore too wide: it covers up to 99 %.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    terms = [(sample.var(ddof=1) / len(sample), len(sample) - 1), (mean * (1 - mean) / images, max(images - 1, 1))]
    variance = sum(term for term, _ in terms)
    low, high = _t_interval(mean, math.sqrt(variance), _satterthwaite(variance, terms, len(sample) - 1))
    return Interval(max(low, 0.0), min(high, 1.0))


def widened(interval: Interval, mean: float, error: float) -> Interval:
    """The interval of a share, widened by a further, independent standard ``error`` of its ``mean``; in [0, 1]."""
    further = NormalDist().inv_cdf((1 + _COVERAGE) / 2) * error
    low, high = (math.hypot(mean - end, further) for end in interval)
    return Interval(max(mean - low, 0.0), min(mean + high, 1.0))


def _over_seeds_and_images(outcomes: npt.NDArray[Any]) -> tuple[float, float, float]:
    """The mean of outcomes (seeds, images), and the standard error and degrees of freedom of its t interval."""
    from scipy.stats import t

    seeds, images = outcomes.shape
    squares, degrees = mean_squares(outcomes), (seeds - 1, images - 1)
    variance = max(squares.units + squares.images - squares.rest, squares.units, squares.images)
    terms = [*zip(squares, (*degrees, degrees[0] * degrees[1]), strict=True)]
    freedom = _satterthwaite(variance, terms, degrees[0])
    of_seeds, of_images, of_mean = t.ppf((1 + _COVERAGE) / 2, [*degrees, freedom])
    # Both parts contain the rest, which counts once. The images' part alone is the least.
    images_alone = max(squares.images - squares.rest, 0.0)
    square = max(of_seeds**2 * squares.units + of_images**2 * images_alone, of_images**2 * squares.images)
    return float(outcomes.mean()), math.sqrt(square / (seeds * images)) / float(of_mean), freedom


def _satterthwaite(variance: float, terms: Sequence[tuple[float, int]], fewest: int) -> float:
    """The degrees of freedom of a variance that is a sum of terms, each given with its own."""
    if not variance > 0:
        return fewest
    return max(variance**2 / sum(term**2 / degrees for term, degrees in terms), fewest)


def _t_interval(mean: float, error: float, freedom: float) -> Interval:
    from scipy.stats import t

    half = float(t.ppf((1 + _COVERAGE) / 2, freedom)) * error
    return Interval(mean - half, mean + half)


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> RankCorrelation:
    """Spearman's rank correlation, e.g. of a cheap and a full robust accuracy over the same settings.

    Both are measurements (n,) of the same n things, in any unit; n is at least 5. Equal values share their mean rank.

    Source:
        Spearman 1904. The interval is Fisher's transformation with the variance (1 + rho^2 / 2) / (n - 3) of Bonett
        and Wright 2000.
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n = len(x)
    if len(np.unique(x)) == 1 or len(np.unique(y)) == 1:
        return RankCorrelation(math.nan, Interval(-1.0, 1.0), n)
    rho = float(np.clip(spearmanr(x, y).statistic, -1.0, 1.0))
    # Fisher's transformation is infinite at 1. Use the next smaller value there, which is one exchanged pair.
    limit = 1 - 6 / (n * (n * n - 1))
    finite = max(-limit, min(limit, rho))
    half = NormalDist().inv_cdf((1 + _COVERAGE) / 2) * math.sqrt((1 + finite**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(finite) - half), math.tanh(math.atanh(finite) + half)
    return RankCorrelation(rho, Interval(min(low, rho), max(high, rho)), n)
