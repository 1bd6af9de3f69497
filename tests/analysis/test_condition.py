"""The condition of the paper's Figure 3, compared with its definition and with the paper's claim."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.condition import GRID_M, GRID_S, PAPER_F, PAPER_S, condition, holds_everywhere


def test_it_is_the_derivative_of_the_gap_between_the_two_probabilities() -> None:
    f, others, s, m, step = 0.4, 8.3, 1.6, 0.05, 1e-5

    def gap(f: float) -> float:
        shifted, plain = math.exp(s * f + m), math.exp(f)
        return shifted / (shifted + others) - plain / (plain + others)

    slope = (gap(f + step) - gap(f - step)) / (2 * step)
    assert others * condition(f, others, s, m) == pytest.approx(slope, rel=1e-6)  # Eq. 13


def test_it_is_zero_for_plain_cross_entropy() -> None:
    assert condition(PAPER_F, PAPER_S, 1.0, 0.0) == 0.0


def test_it_holds_for_the_constants_of_the_paper_and_fails_for_a_very_wrong_logit() -> None:
    f, others = np.array([PAPER_F, -0.9]), np.array([PAPER_S, PAPER_S])
    assert holds_everywhere(f, others, GRID_S, GRID_M).tolist() == [True, False]
