"""The silhouette, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from search.evaluation.representations import silhouette


def test_the_silhouette_is_scikit_learn_s_and_knows_no_scale() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 60)
    points = generator.normal(size=(60, 3)) + 2.0 * labels[:, np.newaxis]
    value = silhouette(points, labels)
    assert value == pytest.approx(silhouette_score(points, labels))
    assert silhouette(1000 * points, labels) == pytest.approx(value)


def test_points_that_coincide_are_separated_or_not() -> None:
    labels = np.array([0, 0, 1, 1])
    assert silhouette(np.array([[0.0], [0.0], [1.0], [1.0]]), labels) == 1.0
    assert silhouette(np.zeros((4, 1)), labels) == 0.0
