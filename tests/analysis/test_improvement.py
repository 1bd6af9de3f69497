"""The expected gain in hypervolume, against exact volumes, simulation and BoTorch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.hypervolume import hypervolume
from analysis.improvement import boxes, expected_improvement, noisy_improvement
from analysis.mixture import GaussianMixture


def volume(points: np.ndarray, reference: np.ndarray) -> float:
    return hypervolume(points, ["maximize"] * len(reference), reference.tolist())


@given(seed=st.integers(0, 10_000), k=st.integers(2, 3), n=st.integers(0, 6))
def test_without_noise_the_expected_gain_is_the_gain(seed: int, k: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    reference, front = np.full(k, 0.2), generator.integers(0, 6, (n, k)) / 5  # some below the reference, some equal
    points = generator.integers(0, 6, (5, k)) / 5
    gains = expected_improvement(front, reference, points, np.zeros_like(points))
    exact = [volume(np.vstack([front, point]), reference) - volume(front, reference) for point in points]
    np.testing.assert_allclose(gains, exact, atol=1e-9)


@given(seed=st.integers(0, 10_000), k=st.integers(2, 3), n=st.integers(0, 6))
def test_every_point_that_is_not_dominated_is_in_one_box(seed: int, k: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    front, reference = generator.random((n, k)), np.zeros(k)
    lower, upper = boxes(front, reference)
    for point in generator.random((20, k)):
        count = int(((lower < point) & (point < upper)).all(axis=1).sum())
        assert count == (0 if (front >= point).all(axis=1).any() else 1)


def test_the_expected_gain_is_the_mean_of_simulated_gains() -> None:
    generator = np.random.default_rng(0)
    front, reference = generator.random((4, 2)), np.array([0.0, 0.1])
    mean, sd = np.array([[0.6, 0.7]]), np.array([[0.2, 0.3]])
    drawn = mean + sd * generator.standard_normal((40_000, 2))
    simulated = expected_improvement(front, reference, drawn, np.zeros_like(drawn))
    expected = expected_improvement(front, reference, mean, sd)[0]
    assert expected == pytest.approx(simulated.mean(), abs=4 * simulated.std() / 200)


def correlated(generator: np.random.Generator, q: int) -> GaussianMixture:
    root = generator.normal(0, 0.2, (q, q))
    return GaussianMixture(np.ones(1), generator.random((1, q)), (root @ root.T)[None])


def test_known_points_and_candidates_are_taken_jointly() -> None:
    """Against plain simulation: all values are drawn at once."""
    generator = np.random.default_rng(1)
    posteriors, reference = [correlated(generator, 6) for _ in range(2)], np.array([-0.5, -0.5])
    draws = np.stack([each.draws(4000, generator) for each in posteriors], axis=2)
    gains = [
        [volume(np.vstack([values[:4], values[at]]), reference) - volume(values[:4], reference) for at in (4, 5)]
        for values in draws
    ]
    found = noisy_improvement(posteriors, [], 4, reference, 2000, generator)
    np.testing.assert_allclose(found, np.mean(gains, axis=0), atol=5 * np.std(gains) / np.sqrt(4000))


def test_probably_infeasible_points_gain_little_and_an_infeasible_front_does_not_count() -> None:
    def certain(*values: float) -> GaussianMixture:
        q = len(values)
        return GaussianMixture(np.ones(1), np.array([values]), 1e-12 * np.eye(q)[None])

    objectives, reference = [certain(0.5, 1.0, 1.0), certain(0.5, 1.0, 1.0)], np.zeros(2)
    free = noisy_improvement(objectives, [], 1, reference, 4, np.random.default_rng(0))
    np.testing.assert_allclose(free, 0.75, atol=1e-4)
    limit = GaussianMixture(np.ones(1), np.array([[1.0, -1.0, 0.0]]), np.diag([1e-12, 1e-12, 1.0])[None])
    bound = noisy_improvement(objectives, [limit], 1, reference, 4, np.random.default_rng(0))
    np.testing.assert_allclose(bound, [1.0, 0.5], atol=1e-4)


def test_it_ranks_candidates_as_botorch_does() -> None:
    pytest.importorskip("botorch", reason="in the dependency group benchmarks")
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.sampling import SobolQMCNormalSampler

    generator = np.random.default_rng(2)
    x = torch.tensor(generator.random((6, 2)))
    values = torch.stack([x[:, 0] + 0.1 * torch.sin(9 * x[:, 1]), 1 - x[:, 0] ** 2], dim=1)
    values = (values - values.mean(dim=0)) / values.std(dim=0)
    model = ModelListGP(
        *(
            SingleTaskGP(x, values[:, [at]], torch.full((6, 1), 0.02, dtype=torch.double), outcome_transform=None)
            for at in range(2)
        )
    )
    candidates = torch.tensor(generator.random((12, 2)))
    reference = np.array([-1.5, -1.5])
    acquisition = qLogNoisyExpectedHypervolumeImprovement(
        model, reference.tolist(), X_baseline=x, sampler=SobolQMCNormalSampler(torch.Size([1024]), seed=0)
    )
    theirs = acquisition(candidates[:, None]).exp().detach().numpy()
    joint = [each.posterior(torch.cat([x, candidates])) for each in model.models]
    posteriors = [
        GaussianMixture(np.ones(1), p.mean.detach().numpy().T, p.covariance_matrix.detach().numpy()[None])
        for p in joint
    ]
    ours = noisy_improvement(posteriors, [], 6, reference, 1024, generator)
    np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=0.02 * theirs.max())
