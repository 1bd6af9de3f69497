from __future__ import annotations

import numpy as np
import pytest

from analysis.mixture import Combination, GaussianMixture, cholesky


def two() -> GaussianMixture:
    covariances = np.array([[[1.0, 0.5], [0.5, 2.0]], [[0.3, 0.0], [0.0, 0.1]]])
    return GaussianMixture(np.array([0.25, 0.75]), np.array([[0.0, 4.0], [2.0, -1.0]]), covariances)


def test_the_moments_are_those_of_the_draws() -> None:
    drawn = two().draws(40_000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), two().mean, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), two().covariance, atol=0.08)


def test_draws_are_repeatable_and_in_random_order() -> None:
    drawn = two().draws(400, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, two().draws(400, np.random.default_rng(0)))
    halves = drawn[:200].mean(axis=0), drawn[200:].mean(axis=0)
    np.testing.assert_allclose(*halves, atol=0.8)


def test_a_combinations_quantiles_are_those_of_the_draws() -> None:
    difference = two().combination([1.0, -1.0])
    drawn = two().draws(40_000, np.random.default_rng(0)) @ [1.0, -1.0]
    assert difference.mean == pytest.approx(drawn.mean(), abs=0.05)
    assert difference.sd == pytest.approx(drawn.std(), abs=0.05)
    assert tuple(difference.interval()) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.1)
    assert difference.below(difference.quantile(0.3)) == pytest.approx(0.3, abs=1e-9)


def test_a_combination_without_a_spread_is_a_step() -> None:
    step = Combination(np.array([1.0]), np.array([2.0]), np.array([0.0]))
    assert (step.below(1.9), step.below(2.0), step.below(2.1)) == (0.0, 0.5, 1.0)
    assert tuple(step.interval()) == pytest.approx((2.0, 2.0))


def test_a_covariance_that_rounding_left_indefinite_is_factored() -> None:
    singular = np.ones((40, 40)) - 1e-14 * np.eye(40)
    factor = cholesky(singular)
    np.testing.assert_allclose(factor @ factor.T, singular, atol=1e-6)
    assert not cholesky(np.zeros((3, 3))).any()
