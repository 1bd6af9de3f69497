from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from analysis.figures.all import complete
from analysis.records import to_frame
from analysis.surfaces import FEWEST_FOR_A_FIT, RESOLUTION, exact_grid, fit, observation_noise, surface
from tests.analysis.examples import grid_run, scattered_run

Array = npt.NDArray[np.float64]


def product(xs: list[float], ys: list[float]) -> Array:
    return np.array([(x, y) for x in xs for y in ys], dtype=np.float64)


def test_a_product_grid_is_drawn_as_measured_in_any_order() -> None:
    points = product([1.0, 1.5, 2.0], [0.05, 0.1])
    order = np.random.default_rng(0).permutation(len(points))
    values = 10 * points[:, 0] + points[:, 1]
    found = surface(points[order], values[order])
    assert found is not None
    assert not found.fitted
    assert found.x.tolist() == [1.0, 1.5, 2.0]
    assert found.y.tolist() == [0.05, 0.1]
    np.testing.assert_array_equal(found.mean, [[10.05, 15.05, 20.05], [10.1, 15.1, 20.1]])


def test_a_point_beside_the_grid_does_not_hide_it_and_repeats_are_averaged() -> None:
    points = np.vstack([product([1.0, 2.0], [0.02, 0.05]), [(1.0, 0.1)], [(2.0, 0.05)]])
    found = exact_grid(points, np.array([1.0, 2.0, 3.0, 4.0, 100.0, 6.0]))
    assert found is not None
    np.testing.assert_array_equal(found.mean, [[1.0, 3.0], [2.0, 5.0]])


def test_a_grid_with_a_hole_and_scattered_points_are_none() -> None:
    points = product([1.0, 1.5, 2.0], [0.02, 0.05, 0.1])
    assert exact_grid(points[:-1], np.zeros(8)) is None
    scattered = np.random.default_rng(0).uniform(size=(30, 2))
    assert exact_grid(scattered, np.zeros(30)) is None
    # Four corners of a search make no grid of thirty trials.
    assert exact_grid(np.vstack([scattered, product([0.0, 1.0], [0.0, 1.0])]), np.zeros(34)) is None


def test_too_few_points_or_one_level_have_no_surface() -> None:
    points = np.random.default_rng(0).uniform(size=(FEWEST_FOR_A_FIT, 2))
    assert surface(points[1:], points[1:, 0]) is None
    assert surface(points, points[:, 0]) is not None
    assert surface(points * [1, 0], points[:, 0]) is None


def truth(points: Array) -> Array:
    return 0.5 - 0.15 * (points[..., 0] - 1) + 2 * points[..., 1] * (0.1 - points[..., 1]) / 0.1


def sample(seed: int, n: int = 24, sd: float = 0.01) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    points = generator.uniform([1, 0], [2, 0.1], size=(n, 2))
    return points, truth(points) + generator.normal(0, sd, n), np.full(n, sd**2)


def test_the_fit_spans_the_points_and_is_the_same_each_time() -> None:
    points, values, noise = sample(0)
    first, second = fit(points, values, noise), fit(points, values, noise)
    assert first.sd is not None
    np.testing.assert_array_equal(first.mean, second.mean)
    assert first.mean.shape == first.sd.shape == (RESOLUTION, RESOLUTION)
    assert (first.x[0], first.x[-1]) == pytest.approx((points[:, 0].min(), points[:, 0].max()))
    assert (first.y[0], first.y[-1]) == pytest.approx((points[:, 1].min(), points[:, 1].max()))


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    covered, errors = [], []
    for seed in range(12):
        found = fit(*sample(seed))
        assert found.sd is not None
        error = np.abs(found.mean - truth(np.stack(np.meshgrid(found.x, found.y), axis=-1)))
        covered.append(float(np.mean(error <= 2 * found.sd)))
        errors.append(float(error.mean()))
    assert 0.93 < np.mean(covered) <= 1.0
    assert min(covered) > 0.6  # no seed at which a parameter is taken for irrelevant
    assert np.mean(errors) < 0.007  # nearer than a single measurement, whose mean error is 0.008


def test_more_noise_is_more_uncertainty() -> None:
    points, values, noise = sample(0)
    little, much = fit(points, values, noise), fit(points, values, 16 * noise)
    assert little.sd is not None
    assert much.sd is not None
    assert much.sd.mean() > 1.5 * little.sd.mean()


def test_equal_values_give_a_flat_surface() -> None:
    points, _, noise = sample(0)
    found = fit(points, np.full(24, 0.97), noise)
    assert found.sd is not None
    np.testing.assert_allclose(found.mean, 0.97, atol=1e-6)
    assert (found.sd > 0).all()
    assert np.isfinite(fit(points, np.full(24, 0.97)).mean).all()


def test_units_do_not_change_the_fit() -> None:
    points, values, noise = sample(1)
    one, other = fit(points, values, noise), fit(points * [7, 1000], 100 * values, 1e4 * noise)
    assert one.sd is not None
    assert other.sd is not None
    np.testing.assert_allclose(other.mean, 100 * one.mean, rtol=1e-3)
    np.testing.assert_allclose(other.sd, 100 * one.sd, rtol=5e-2)


def test_noise_is_binomial_over_images_or_the_variance_over_seeds() -> None:
    one = complete(to_frame(scattered_run()), "search")
    noise = observation_noise(one, "robust_accuracy")
    assert noise is not None
    p = one["robust_accuracy"].to_numpy()
    np.testing.assert_allclose(noise, p * (1 - p) / 500, rtol=0.01)

    three = complete(to_frame(grid_run(replicates=3)), "search")
    pooled = observation_noise(three, "clean_accuracy")
    assert pooled is not None
    each = three[[f"clean_accuracy[{r}]" for r in range(3)]].to_numpy()
    np.testing.assert_allclose(pooled, np.mean([np.var(row, ddof=1) for row in each]) / 3)


def test_rows_of_more_replicates_have_less_noise_and_one_of_them_tells_nothing_of_it() -> None:
    rows = [*grid_run(replicates=1)[:5], *grid_run(replicates=2)[5:8], *grid_run(replicates=4)[8:12]]
    frame = complete(to_frame(rows), "search")
    noise = observation_noise(frame, "clean_accuracy")
    assert noise is not None
    each = [[replicate["clean_accuracy"] for replicate in record.replicates] for record in rows]
    squares = sum(len(values) * np.var(values) for values in each)
    np.testing.assert_allclose(noise, [squares / (3 * 1 + 4 * 3) / len(values) for values in each])


def test_what_was_measured_of_all_replicates_together_has_no_known_noise() -> None:
    rows = [
        replace(record, objectives={**record.objectives, "train_seconds": 9.5}) for record in grid_run(replicates=2)
    ]
    assert observation_noise(complete(to_frame(rows), "search"), "train_seconds") is None


def test_no_accuracy_is_certain() -> None:
    frame = complete(to_frame(scattered_run()), "search").assign(robust_accuracy=1.0)
    noise = observation_noise(frame, "robust_accuracy")
    assert noise is not None
    assert (noise > 0).all()


def test_one_set_of_hyperparameters_is_scikit_learns_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    from analysis import surfaces

    monkeypatch.setattr(surfaces, "_LENGTHS", (0.5,))
    monkeypatch.setattr(surfaces, "_AMPLITUDES", (1.5,))
    monkeypatch.setattr(surfaces, "_WHITE_VARIANCES", (0.05,))
    generator = np.random.default_rng(0)
    points, nodes = generator.uniform(size=(20, 2)), generator.uniform(size=(50, 2))
    values, noise = generator.normal(size=20), generator.uniform(0, 0.3, size=20)
    kernel = ConstantKernel(4.0) + ConstantKernel(1.5**2) * Matern([0.5, 0.5], nu=2.5)
    process = GaussianProcessRegressor(kernel, alpha=noise + 0.05, optimizer=None).fit(points, values)
    expected = process.predict(nodes, return_std=True)
    for ours, theirs in zip(surfaces._average_process(points, values, noise, nodes), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_hyperparameters_weigh_as_much_as_scikit_learn_finds_them_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    from analysis import surfaces

    monkeypatch.setattr(surfaces, "_LENGTHS", (0.5, 2.0))
    monkeypatch.setattr(surfaces, "_AMPLITUDES", (1.5,))
    monkeypatch.setattr(surfaces, "_WHITE_VARIANCES", (0.05,))
    generator = np.random.default_rng(0)
    points, nodes = generator.uniform(size=(12, 2)), generator.uniform(size=(9, 2))
    values = np.sin(5 * points[:, 0]) + generator.normal(0, 0.1, size=12)
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
    ours = surfaces._average_process(points, values, np.zeros(12), nodes)
    np.testing.assert_allclose(ours[0], mean, atol=2e-3)
    np.testing.assert_allclose(ours[1], sd, atol=5e-3)


def test_height_between_and_at_the_nodes() -> None:
    found = exact_grid(product([1.0, 2.0, 4.0], [0.0, 0.1]), np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found is not None
    heights = found.at(np.array([[1.0, 0.0], [4.0, 0.1], [3.0, 0.05], [1.5, 0.1]]))
    np.testing.assert_allclose(heights, [0.0, 5.0, 3.5, 2.0])
    assert np.isnan(found.at(np.array([[0.9, 0.05], [2.0, 0.11]]))).all()
