"""Exact tests of per-image outcomes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Images = NDArray[np.bool_]


def at_least(successes: int, n: int, confidence: float = 0.95) -> float:
    """The lower end of the exact two-sided interval of a share, in [0, 1].

    Args:
        successes: In [0, n].
        n: At least 1.
        confidence: The interval's level, in (0, 1).

    Source:
        Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    return float(binomtest(successes, n).proportion_ci(confidence, method="exact").low)


def at_most(successes: int, n: int, confidence: float = 0.95) -> float:
    """The upper end of the same interval."""
    return float(binomtest(successes, n).proportion_ci(confidence, method="exact").high)


def mcnemar(first: Images, second: Images) -> float:
    """Two-sided exact p-value of the discordant pairs of two outcomes on the same images, bool (n,) each.

    Source:
        McNemar 1947, "Note on the sampling error of the difference between correlated proportions", with the binomial
        distribution in place of its chi-squared approximation.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
