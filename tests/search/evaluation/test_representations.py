"""Measures of trained networks without an attack. The silhouette is compared with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from analysis.condition import GRID_M, GRID_S, holds_everywhere
from search.evaluation.representations import condition_measures, embedded_points, embedding_measures, silhouette
from search.results.audits import load_model
from search.results.leaderboard import Contestant
from search.runs.folder import Run
from tests.search.examples import small_config
from trainables.trial import run_candidate

NUMBERS = ("0", "R0")


@pytest.fixture(scope="module")
def contestant(tmp_path_factory: pytest.TempPathFactory) -> Contestant:
    """Two networks with features of width 3."""
    config = small_config(
        name="embedded",
        model={"name": "lenet5", "embedding": 3},
        robustness={"attacks": [{"name": "pgd", "steps": 1}], "images": 2},
    )
    run = Run.plan(config, tmp_path_factory.mktemp("runs"))
    run.create({"name": "mnist5k", "sha256": "0" * 64, "location": "here", "sizes": {"train": 300}})
    for seed, number in enumerate(NUMBERS):
        candidate = config.candidate({"s": 1.0, "m": 0.1})
        checkpoints = run.folder / "checkpoints" / number
        list(run_candidate(config.problem, candidate, replicates=[seed], checkpoints=checkpoints))
    return Contestant("embedded", run, [])


def test_the_condition_is_that_of_the_normalized_logits(contestant: Contestant) -> None:
    measures = condition_measures(contestant, NUMBERS)
    assert {name: values.shape for name, values in measures.items()} == dict.fromkeys(measures, (2, 60))
    splits, (replicate,) = load_model(contestant.run.folder / "checkpoints" / NUMBERS[1], contestant.run.config)
    validation = splits["validation"]
    with torch.no_grad():
        normalized = torch.nn.functional.normalize(replicate.predictor.eval()(validation.images)).double()
    true = normalized.gather(1, validation.labels.unsqueeze(1)).squeeze(1)
    assert measures["f_true"][1] == pytest.approx(true.numpy(), abs=1e-5)
    others = normalized.exp().sum(1) - true.exp()
    assert measures["others"][1] == pytest.approx(others.numpy(), abs=1e-5)
    expected = holds_everywhere(measures["f_true"], measures["others"], GRID_S, GRID_M)
    assert (measures["condition"] == expected).all()


def test_points_are_the_features_of_one_network(contestant: Contestant) -> None:
    points = embedded_points(contestant, NUMBERS[0])
    assert list(points.columns) == ["label", "x", "y", "z"]
    measures = embedding_measures(contestant, NUMBERS)
    features = points[["x", "y", "z"]].to_numpy()  # of the 60 validation images, rounded
    at_unit_length = features / np.linalg.norm(features, axis=1, keepdims=True)
    for name, own in (("silhouette", features), ("angular_silhouette", at_unit_length)):
        values = measures[name]
        assert values.shape == (2,)
        assert values[0] == pytest.approx(silhouette_score(own, points["label"]), abs=1e-2)
        assert values[0] != values[1]


def test_the_silhouette_is_that_of_scikit_learn_and_independent_of_scale() -> None:
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
