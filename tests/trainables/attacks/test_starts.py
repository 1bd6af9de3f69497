from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.attacks.engine.starts import random_starts


def test_starts_have_uniform_directions_and_lengths() -> None:
    points = random_starts(4000, 5, np.random.default_rng(0))
    length = np.linalg.norm(points, axis=1)
    expected = (np.arange(4000) + 0.5) / 4000
    assert np.abs(np.sort(length) - expected).max() < 1.63 / np.sqrt(4000)  # Kolmogorov-Smirnov, 1 %
    direction = points / length[:, None]
    assert np.abs(direction.mean(axis=0)).max() < 0.03
    np.testing.assert_allclose(np.cov(direction.T), np.eye(5) / 5, atol=0.01)


@settings(deadline=None)
@given(few=st.integers(1, 20), more=st.integers(0, 20), dimensions=st.integers(1, 50))
def test_the_first_starts_do_not_depend_on_their_number(few: int, more: int, dimensions: int) -> None:
    short, long = (random_starts(count, dimensions, np.random.default_rng(7)) for count in (few, few + more))
    np.testing.assert_array_equal(short, long[:few])
