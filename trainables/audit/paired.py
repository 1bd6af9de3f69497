"""Exact tests of per-image outcomes, by hand: the training core knows neither `analysis` nor scipy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.bool_]


def tail(successes: int, n: int, probability: float) -> float:
    """P(X >= successes) of a binomial X over ``n`` trials."""
    if successes <= 0:
        return 1.0
    if probability <= 0:
        return 0.0
    if probability >= 1:
        return 1.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q
        for k in range(successes, n + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def at_least(successes: int, n: int, confidence: float = 0.95) -> float:
    """The lower end of the exact two-sided interval of a share, in [0, 1].

    Args:
        successes: In [0, n].
        n: At least 1.
        confidence: Of the interval, in (0, 1).

    Source:
        Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    if successes == 0:
        return 0.0
    low, high, level = 0.0, successes / n, (1 - confidence) / 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(successes, n, middle) < level else (low, middle)
    return low


def at_most(successes: int, n: int, confidence: float = 0.95) -> float:
    """The upper end of the same interval."""
    return 1.0 - at_least(n - successes, n, confidence)


def mcnemar(first: Images, second: Images) -> float:
    """Two-sided exact p-value of the discordant pairs of two outcomes on the same images, bool (n,) each.

    Source:
        McNemar 1947, "Note on the sampling error of the difference between correlated proportions", with the binomial
        distribution in place of its chi-squared approximation.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return min(1.0, 2 * tail(max(only_first, only_second), discordant, 0.5)) if discordant else 1.0
