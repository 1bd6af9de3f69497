from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from analysis import gaussian_process
from analysis.gaussian_process import Encoder, GaussianProcess
from tests.analysis.examples import MIXED_DOMAINS
from trainables.settings.space import Choices, Domain, Range

Array = npt.NDArray[np.float64]
FLAG = Choices(choices=(False, True))


def standard(values: Array, noise: float = 0.0) -> Array:
    """Values that the process takes as they are: of mean 0, and of variance 1 together with their noise."""
    result: Array = (values - values.mean()) / values.std() * np.sqrt(1 - noise)
    return result


def test_one_set_of_hyperparameters_is_scikit_learns_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    monkeypatch.setattr(gaussian_process, "_LENGTHS", (0.5,))
    monkeypatch.setattr(gaussian_process, "_AMPLITUDES", (1.5,))
    monkeypatch.setattr(gaussian_process, "_WHITE_VARIANCES", (0.05,))
    generator = np.random.default_rng(0)
    points, nodes = generator.uniform(size=(20, 2)), generator.uniform(size=(50, 2))
    noise = generator.uniform(0, 0.3, size=20)
    values = standard(generator.normal(size=20), noise.mean())
    kernel = ConstantKernel(4.0) + ConstantKernel(1.5**2) * Matern([0.5, 0.5], nu=2.5)
    process = GaussianProcessRegressor(kernel, alpha=noise + 0.05, optimizer=None).fit(points, values)
    expected = process.predict(nodes, return_std=True)
    for ours, theirs in zip(GaussianProcess(points, values, noise).predict(nodes), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_hyperparameters_weigh_as_much_as_scikit_learn_finds_them_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    monkeypatch.setattr(gaussian_process, "_LENGTHS", (0.5, 2.0))
    monkeypatch.setattr(gaussian_process, "_AMPLITUDES", (1.5,))
    monkeypatch.setattr(gaussian_process, "_WHITE_VARIANCES", (0.05,))
    generator = np.random.default_rng(0)
    points, nodes = generator.uniform(size=(12, 2)), generator.uniform(size=(9, 2))
    values = standard(np.sin(5 * points[:, 0]) + generator.normal(0, 0.1, size=12))
    weights, means, squares = [], [], []
    for lengths in [(0.5, 0.5), (0.5, 2.0), (2.0, 0.5), (2.0, 2.0)]:
        kernel = ConstantKernel(4.0) + ConstantKernel(1.5**2) * Matern(lengths, nu=2.5)
        process = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None).fit(points, values)
        mean, sd = process.predict(nodes, return_std=True)
        weights.append(np.exp(process.log_marginal_likelihood_value_))
        means.append(mean)
        squares.append(mean**2 + sd**2)
    mean = np.average(means, axis=0, weights=weights)
    sd = np.sqrt(np.average(squares, axis=0, weights=weights) - mean**2)
    ours = GaussianProcess(points, values).predict(nodes)
    np.testing.assert_allclose(ours[0], mean, atol=2e-3)
    np.testing.assert_allclose(ours[1], sd, atol=5e-3)


def test_columns_of_one_parameter_share_a_length_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A category is one parameter, however many values it has."""
    generator = np.random.default_rng(0)
    points = np.stack([generator.uniform(size=15), *np.eye(3)[generator.integers(0, 3, 15)].T], axis=1)
    evaluated: list[tuple[float, ...]] = []
    evaluate = GaussianProcess._evaluate

    def note(self: GaussianProcess, lengths: tuple[float, ...]) -> list[gaussian_process._Hyperparameters]:
        evaluated.append(lengths)
        return evaluate(self, lengths)

    monkeypatch.setattr(GaussianProcess, "_evaluate", note)
    GaussianProcess(points, generator.normal(size=15), dimensions=(0, 1, 1, 1))
    assert {len(lengths) for lengths in evaluated} == {2}
    assert len(evaluated) == 25


def smooth(points: Array) -> Array:
    heights: Array = np.sin(4 * points[:, 0]) + points[:, 1] ** 2
    return heights


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 6])
def test_any_number_of_dimensions_is_predicted_better_than_by_the_mean(dimensions: int) -> None:
    generator = np.random.default_rng(dimensions)
    points, nodes = generator.uniform(size=(60, dimensions)), generator.uniform(size=(200, dimensions))
    truth = smooth if dimensions > 1 else lambda x: np.sin(4 * x[:, 0])
    values = truth(points) + generator.normal(0, 0.05, 60)
    mean, sd = GaussianProcess(points, values, np.full(60, 0.05**2)).predict(nodes)
    error = np.abs(mean - truth(nodes))
    assert error.mean() < 0.25 * np.abs(truth(nodes) - values.mean()).mean()
    assert np.mean(error <= 2 * sd) > 0.85


def test_beyond_three_parameters_the_search_finds_the_one_that_matters() -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform(size=(40, 5))
    process = GaussianProcess(points, np.sin(6 * points[:, 3]))
    weight, best = max(process._mixture, key=lambda pair: pair[0])
    assert weight == 1.0
    assert best.lengths[3] < min(best.lengths[axis] for axis in (0, 1, 2, 4))


def test_the_order_and_the_unit_of_measurements_do_not_matter() -> None:
    generator = np.random.default_rng(0)
    points, values = generator.uniform(size=(20, 3)), generator.normal(size=20)
    nodes, order = generator.uniform(size=(7, 3)), generator.permutation(20)
    mean, sd = GaussianProcess(points, values).predict(nodes)
    again, again_sd = GaussianProcess(points[order], 100 * values[order] + 3).predict(nodes)
    np.testing.assert_allclose(again, 100 * mean + 3, rtol=1e-6)
    np.testing.assert_allclose(again_sd, 100 * sd, rtol=1e-6)


def test_numbers_are_encoded_in_ranges_and_logarithms() -> None:
    domains: dict[str, Domain] = {
        "rate": Range(low=1e-4, high=1.0, log=True),
        "width": Range(low=1, high=8, integer=True),
        "constant": Range(low=0, high=1),
    }
    rows = [{"rate": rate, "width": width, "constant": 0.5} for rate, width in ((1e-4, 1), (1e-2, 3), (1.0, 5))]
    encoder = Encoder(rows, domains)
    np.testing.assert_allclose(encoder.encode(rows), [[0, 0, 0], [0.5, 0.5, 0], [1, 1, 0]], atol=1e-12)
    assert encoder.dimensions == (0, 1, 2)


def test_two_categories_are_as_far_apart_as_the_ends_of_a_range() -> None:
    domains: dict[str, Domain] = {"s": Range(low=0, high=1), "name": Choices(choices=("a", "b", "c")), "flag": FLAG}
    rows = [{"s": 0.0, "name": name, "flag": flag} for name in "abc" for flag in (False, True)]
    encoder = Encoder(rows, domains)
    assert encoder.dimensions == (0, 1, 1, 1, 2, 2)
    encoded = encoder.encode(rows)
    squares = np.sum((encoded[:, None] - encoded[None]) ** 2, axis=-1)
    expected = [[(a["name"] != b["name"]) + (a["flag"] != b["flag"]) for b in rows] for a in rows]
    np.testing.assert_allclose(squares, expected, atol=1e-12)


def test_categories_are_learnt() -> None:
    generator = np.random.default_rng(0)
    rows = [{"s": generator.uniform(), "name": str(generator.choice(["a", "b", "c"]))} for _ in range(40)]
    domains: dict[str, Domain] = {"s": Range(low=0, high=1), "name": Choices(choices=("a", "b", "c"))}
    levels = {"a": 0.0, "b": 1.0, "c": -1.0}
    encoder = Encoder(rows, domains)
    values = np.array([row["s"] + levels[row["name"]] for row in rows])
    process = GaussianProcess(encoder.encode(rows), values, dimensions=encoder.dimensions)
    mean, _ = process.predict(encoder.encode([{"s": 0.5, "name": name} for name in levels]))
    np.testing.assert_allclose(mean, [0.5 + level for level in levels.values()], atol=0.1)


def test_mixed_parameters_have_a_column_for_each_number_and_category() -> None:
    row = {"s": 1.0, "m": 0.1, "train.learning_rate": 0.01, "model.width": 2, "train.augment": True}
    rows = [{**row, "defence.name": name} for name in ("none", "adversarial-training")]
    assert Encoder(rows, MIXED_DOMAINS).dimensions == (0, 1, 2, 3, 4, 4, 5)
