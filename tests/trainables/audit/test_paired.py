"""The exact tests, against sums over the binomial distribution in rational numbers."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from trainables.audit.paired import at_least, at_most, mcnemar


def tail(successes: int, n: int, probability: Fraction) -> Fraction:
    """P(X >= successes) of a binomial X over ``n`` trials."""
    return sum(
        (comb(n, k) * probability**k * (1 - probability) ** (n - k) for k in range(successes, n + 1)), Fraction(0)
    )


def lower_end(successes: int, n: int) -> float:
    """The share at which as many successes or more have a chance of 2.5 %, by bisection."""
    low, high = Fraction(0), Fraction(successes, n)
    for _ in range(36):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(successes, n, middle) < Fraction(25, 1000) else (low, middle)
    return float(low)


@pytest.mark.parametrize(("successes", "n"), [(0, 30), (1, 30), (17, 30), (29, 30), (30, 30), (7, 90)])
def test_the_interval_is_clopper_and_pearsons(successes: int, n: int) -> None:
    assert at_least(successes, n) == pytest.approx(lower_end(successes, n) if successes else 0, abs=1e-9)
    others = n - successes
    assert at_most(successes, n) == pytest.approx(1 - lower_end(others, n) if others else 1, abs=1e-9)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (0, 5), (7, 7), (3, 12), (12, 3), (40, 21)])
def test_mcnemars_p_value_is_the_binomial_tail(lost: int, gained: int) -> None:
    first = np.array([True] * lost + [False] * gained + [True, False])
    second = np.array([False] * lost + [True] * gained + [True, False])
    expected = min(Fraction(1), 2 * tail(max(lost, gained), lost + gained, Fraction(1, 2))) if lost + gained else 1
    assert mcnemar(first, second) == pytest.approx(float(expected), abs=1e-9)
