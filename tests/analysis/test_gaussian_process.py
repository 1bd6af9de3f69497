from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from analysis import gaussian_process
from analysis.gaussian_process import Encoder, GaussianProcess
from tests.analysis.examples import MIXED_DOMAINS
from trainables.settings.space import Choices, Domain, Range

Array = npt.NDArray[np.float64]
FLAG = Choices(choices=(False, True))


def scikit_learns(process: GaussianProcess, theta: Any) -> Any:
    """Scikit-learn's process with these hyperparameters, fitted to the same standardised values."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    kernel = ConstantKernel(gaussian_process._LEVEL_VARIANCE)
    kernel += ConstantKernel(theta.amplitude**2) * Matern(theta.lengths, nu=2.5)
    regressor = GaussianProcessRegressor(kernel, alpha=process._noise + theta.white**2, optimizer=None)
    return regressor.fit(process._points, process._values)


def measured(generator: np.random.Generator, points: int = 20) -> tuple[Array, Array, Array]:
    at, noise = generator.uniform(size=(points, 2)), generator.uniform(0, 0.1, size=points)
    return at, 3 + np.sin(5 * at[:, 0]) + generator.normal(0, 0.3, size=points), noise


def test_the_prediction_is_the_average_of_scikit_learns_processes() -> None:
    generator = np.random.default_rng(0)
    points, values, noise = measured(generator)
    nodes = generator.uniform(size=(50, 2))
    process = GaussianProcess(points, values, noise)
    mean, square = np.zeros(50), np.zeros(50)
    for weight, theta in process._mixture:
        own, sd = scikit_learns(process, theta).predict(nodes, return_std=True)
        own, sd = values.mean() + process._scale * own, process._scale * sd
        mean, square = mean + weight * own, square + weight * (own**2 + sd**2)
    for ours, theirs in zip(process.predict(nodes), (mean, np.sqrt(square - mean**2)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_joint_posterior_agrees_with_the_prediction_and_with_scikit_learns_covariance() -> None:
    generator = np.random.default_rng(0)
    points, values, noise = measured(generator)
    nodes = generator.uniform(size=(9, 2))
    process = GaussianProcess(points, values, noise)
    joint, (mean, sd) = process.joint(nodes), process.predict(nodes)
    np.testing.assert_allclose(joint.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(np.diagonal(joint.covariance)), sd, rtol=1e-6)
    covariance = scikit_learns(process, process._mixture[0][1]).predict(nodes, return_cov=True)[1]
    np.testing.assert_allclose(joint.covariances[0], process._scale**2 * covariance, atol=1e-6)


def test_the_average_is_over_the_posterior_of_the_hyperparameters() -> None:
    """Against brute force over a fine lattice of one length scale, an amplitude and the white noise."""
    generator = np.random.default_rng(0)
    points = generator.uniform(size=(12, 1))
    process = GaussianProcess(points, np.sin(5 * points[:, 0]) + generator.normal(0, 0.3, size=12))
    low, high = gaussian_process._LOG_SDS
    lengths = np.linspace(*gaussian_process._LOG_LENGTHS, 12)
    lattice = [np.array(node) for node in itertools.product(lengths, *[np.linspace(low, high, 18)] * 2)]
    logs = np.array([process._log_posterior(node) for node in lattice])
    weights = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    ours = sum(weight * np.log([*theta.lengths, theta.amplitude, theta.white]) for weight, theta in process._mixture)
    # The importance samples have an effective size of some 60; a standard error is about an eighth of an sd.
    mean = weights @ lattice
    sd = np.sqrt(weights @ (np.array(lattice) - mean) ** 2)
    assert (np.abs(ours - mean) < 0.4 * sd).all()


GROUPED_LOGS = np.log([0.7, 1.3, 0.4, 0.8, 0.5])


def grouped(generator: np.random.Generator) -> GaussianProcess:
    """Two separate places, four groups, and a fifth of the cells missing."""
    points = generator.uniform(size=(10, 2))
    rows, groups = np.repeat(np.arange(12), 4), np.tile(np.arange(4), 12)
    kept = generator.random(48) < 0.8
    rows, groups = rows[kept], groups[kept]
    heights = np.concatenate([np.sin(3 * points[:, 0]), [9, -9]])
    values = heights[rows] + np.array([-1, 0.5, 1, -0.5])[groups] + generator.normal(0, 0.3, size=len(rows))
    return GaussianProcess(points, values, np.full(len(rows), 0.01), rows=rows, groups=groups)


def dense_covariances(process: GaussianProcess, theta: Any) -> tuple[Array, Array, Array]:
    """The prior covariance of all effects, the effects in each value, and the values' covariance, written out."""
    n, values = len(process._points), len(process._values)
    effects = np.zeros((process._size, process._size))
    correlation = gaussian_process._matern(process._squares, theta.lengths)
    effects[:n, :n] = gaussian_process._LEVEL_VARIANCE + theta.amplitude**2 * correlation
    effects[n : n + 2, n : n + 2] = gaussian_process._LEVEL_VARIANCE * np.eye(2)
    effects[n + 2 :, n + 2 :] = theta.group**2 * np.eye(4)
    design = np.zeros((values, process._size))
    assert process._groups is not None
    design[np.arange(values), process._rows] = design[np.arange(values), n + 2 + process._groups] = 1
    return effects, design, design @ effects @ design.T + np.diag(process._noise + theta.white**2)


def test_groups_and_places_are_those_of_the_values_own_covariance() -> None:
    from scipy.stats import multivariate_normal

    process = grouped(np.random.default_rng(0))
    theta = process._unpacked(GROUPED_LOGS)
    _, design, covariance = dense_covariances(process, theta)
    fit = process._fit(theta)
    density = multivariate_normal(np.zeros(len(covariance)), covariance).logpdf(process._values)
    constant = len(covariance) / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(fit.log_likelihood - constant, density, rtol=1e-8)
    np.testing.assert_allclose(fit.precision, design.T @ np.linalg.solve(covariance, design), atol=1e-7)
    np.testing.assert_allclose(fit.pull, design.T @ np.linalg.solve(covariance, process._values), atol=1e-7)


def test_the_gradient_is_that_of_the_log_posterior() -> None:
    from scipy.optimize import approx_fprime

    process = grouped(np.random.default_rng(0))
    numeric = approx_fprime(GROUPED_LOGS, lambda logs: process._loss(logs)[0], 1e-6)
    np.testing.assert_allclose(process._loss(GROUPED_LOGS)[1], numeric, rtol=1e-3, atol=1e-3)


def test_separate_places_and_groups_are_estimated() -> None:
    process = grouped(np.random.default_rng(0))
    joint = process.joint(np.empty((0, 2)), places=[0, 1], groups=[0, 1, 2, 3, 4])
    mean, sd = joint.mean, np.sqrt(np.diagonal(joint.covariance))
    assert mean[:2] == pytest.approx([9, -9], abs=1)
    np.testing.assert_allclose(mean[2:6] - mean[2:6].mean(), [-1, 0.5, 1, -0.5], atol=0.4)
    # A group that was never measured has the groups' mean and all of their spread.
    assert mean[6] == pytest.approx(0, abs=1e-9)
    assert sd[6] > sd[2:6].max()
    assert float(process.weights @ process.white_sds) == pytest.approx(0.3, rel=0.4)


def test_columns_of_one_parameter_share_a_length_scale() -> None:
    """A category is one parameter, however many values it has."""
    generator = np.random.default_rng(0)
    points = np.stack([generator.uniform(size=15), *np.eye(3)[generator.integers(0, 3, 15)].T], axis=1)
    process = GaussianProcess(points, generator.normal(size=15), dimensions=(0, 1, 1, 1))
    assert {len(theta.lengths) for _, theta in process._mixture} == {2}


@pytest.mark.parametrize("values", [np.zeros(8), np.full(8, 0.25)])
def test_values_that_are_all_equal_are_predicted(values: Array) -> None:
    points = np.linspace(0, 1, 8)[:, None]
    mean, sd = GaussianProcess(points, values).predict(points)
    np.testing.assert_allclose(mean, values, atol=1e-9)
    assert np.isfinite(sd).all()


def test_a_point_is_enough() -> None:
    mean, sd = GaussianProcess(np.zeros((1, 2)), np.array([0.5])).predict(np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_allclose(mean, 0.5)
    assert sd[1] > sd[0]


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


def test_among_five_parameters_the_one_that_matters_is_found() -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform(size=(40, 5))
    process = GaussianProcess(points, np.sin(6 * points[:, 3]))
    lengths = np.average([theta.lengths for _, theta in process._mixture], axis=0, weights=process.weights)
    assert lengths[3] < 0.5 * min(lengths[axis] for axis in (0, 1, 2, 4))


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
