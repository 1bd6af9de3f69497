from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from analysis.figures.style import complete
from analysis.frames import to_frame
from analysis.surfaces import (
    FEWEST_FOR_A_FIT,
    RESOLUTION,
    Slice,
    Surface,
    effects,
    exact_grid,
    observation_noise,
    plan_slice,
    positions,
    surface,
)
from tests.analysis.examples import SM_DOMAINS, SM_RANGES, grid_run, scattered_run
from trainables.settings.space import Choices, Domain, Range

Array = npt.NDArray[np.float64]


BOTH = Slice(SM_RANGES, {})


def rows_at(points: Array) -> list[dict[str, float]]:
    return [dict(zip(BOTH.axes, point, strict=True)) for point in points.tolist()]


def surface_over(points: Array, values: Array) -> Surface | None:
    return surface(rows_at(points), values, None, SM_DOMAINS, BOTH)


def fit_over(points: Array, values: Array, noise: Array | None = None) -> Surface:
    fitted = surface(rows_at(points), values, noise, SM_DOMAINS, BOTH)
    assert fitted is not None
    return fitted


def product(xs: list[float], ys: list[float]) -> Array:
    return np.array([(x, y) for x in xs for y in ys], dtype=np.float64)


def test_a_product_grid_is_drawn_as_measured_in_any_order() -> None:
    points = product([1.0, 1.5, 2.0], [0.05, 0.1])
    order = np.random.default_rng(0).permutation(len(points))
    values = 10 * points[:, 0] + points[:, 1]
    drawn = surface_over(points[order], values[order])
    assert drawn is not None
    assert not drawn.fitted
    assert drawn.x.tolist() == [1.0, 1.5, 2.0]
    assert drawn.y.tolist() == [0.05, 0.1]
    np.testing.assert_array_equal(drawn.mean, [[10.05, 15.05, 20.05], [10.1, 15.1, 20.1]])


def test_a_point_beside_the_grid_does_not_hide_it_and_repeats_are_averaged() -> None:
    points = np.vstack([product([1.0, 2.0], [0.02, 0.05]), [(1.0, 0.1)], [(2.0, 0.05)]])
    drawn = exact_grid(points, np.array([1.0, 2.0, 3.0, 4.0, 100.0, 6.0]))
    assert drawn is not None
    np.testing.assert_array_equal(drawn.mean, [[1.0, 3.0], [2.0, 5.0]])


def test_a_grid_with_a_hole_and_scattered_points_are_none() -> None:
    points = product([1.0, 1.5, 2.0], [0.02, 0.05, 0.1])
    assert exact_grid(points[:-1], np.zeros(8)) is None
    scattered = np.random.default_rng(0).uniform(size=(30, 2))
    assert exact_grid(scattered, np.zeros(30)) is None
    # Four corners of a search make no grid of thirty trials.
    assert exact_grid(np.vstack([scattered, product([0.0, 1.0], [0.0, 1.0])]), np.zeros(34)) is None


def test_too_few_points_or_one_level_have_no_surface() -> None:
    points = np.random.default_rng(0).uniform(size=(FEWEST_FOR_A_FIT, 2))
    assert surface_over(points[1:], points[1:, 0]) is None
    assert surface_over(points, points[:, 0]) is not None
    assert surface_over(points * [1, 0], points[:, 0]) is None


def truth(points: Array) -> Array:
    return 0.5 - 0.15 * (points[..., 0] - 1) + 2 * points[..., 1] * (0.1 - points[..., 1]) / 0.1


def sample(seed: int, n: int = 24, sd: float = 0.01) -> tuple[Array, Array, Array]:
    generator = np.random.default_rng(seed)
    points = generator.uniform([1, 0], [2, 0.1], size=(n, 2))
    return points, truth(points) + generator.normal(0, sd, n), np.full(n, sd**2)


def test_the_fit_spans_the_points_and_is_the_same_each_time() -> None:
    points, values, noise = sample(0)
    first, second = fit_over(points, values, noise), fit_over(points, values, noise)
    assert first.sd is not None
    np.testing.assert_array_equal(first.mean, second.mean)
    assert first.mean.shape == first.sd.shape == (RESOLUTION, RESOLUTION)
    assert (first.x[0], first.x[-1]) == pytest.approx((points[:, 0].min(), points[:, 0].max()))
    assert (first.y[0], first.y[-1]) == pytest.approx((points[:, 1].min(), points[:, 1].max()))


def test_the_band_holds_the_truth_about_as_often_as_it_says() -> None:
    covered, errors = [], []
    for seed in range(12):
        drawn = fit_over(*sample(seed))
        assert drawn.sd is not None
        error = np.abs(drawn.mean - truth(np.stack(np.meshgrid(drawn.x, drawn.y), axis=-1)))
        covered.append(float(np.mean(error <= 2 * drawn.sd)))
        errors.append(float(error.mean()))
    assert 0.93 < np.mean(covered) <= 1.0
    assert min(covered) > 0.6  # no seed at which a parameter is taken for irrelevant
    assert np.mean(errors) < 0.007  # nearer than a single measurement, whose mean error is 0.008


def test_more_noise_is_more_uncertainty() -> None:
    points, values, noise = sample(0)
    little, much = fit_over(points, values, noise), fit_over(points, values, 16 * noise)
    assert little.sd is not None
    assert much.sd is not None
    assert much.sd.mean() > 1.5 * little.sd.mean()


def test_equal_values_give_a_flat_surface() -> None:
    points, _, noise = sample(0)
    drawn = fit_over(points, np.full(24, 0.97), noise)
    assert drawn.sd is not None
    np.testing.assert_allclose(drawn.mean, 0.97, atol=1e-6)
    assert (drawn.sd > 0).all()
    assert np.isfinite(fit_over(points, np.full(24, 0.97)).mean).all()


def test_units_do_not_change_the_fit() -> None:
    points, values, noise = sample(1)
    first, second = fit_over(points, values, noise), fit_over(points * [7, 1000], 100 * values, 1e4 * noise)
    assert first.sd is not None
    assert second.sd is not None
    np.testing.assert_allclose(second.mean, 100 * first.mean, rtol=1e-3)
    np.testing.assert_allclose(second.sd, 100 * first.sd, rtol=5e-2)


def test_noise_is_binomial_over_images_or_the_variance_over_seeds() -> None:
    frame = complete(to_frame(scattered_run()), "search")
    noise = observation_noise(frame, "robust_accuracy")
    assert noise is not None
    p = frame["robust_accuracy"].to_numpy()
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


def test_height_between_and_at_the_nodes() -> None:
    drawn = exact_grid(product([1.0, 2.0, 4.0], [0.0, 0.1]), np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
    assert drawn is not None
    heights = drawn.at(np.array([[1.0, 0.0], [4.0, 0.1], [3.0, 0.05], [1.5, 0.1]]))
    np.testing.assert_allclose(heights, [0.0, 5.0, 3.5, 2.0])
    assert np.isnan(drawn.at(np.array([[0.9, 0.05], [2.0, 0.11]]))).all()


UNIT = Range(low=0, high=1)


def settings(n: int, names: str, seed: int = 0) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    return [{name: float(generator.uniform()) for name in names} for _ in range(n)]


def test_two_parameters_are_drawn_as_they_are() -> None:
    rows = [{"s": 1.0, "m": 0.1}, {"s": 1.5, "m": 0.05}]
    plan = plan_slice(rows, rows, [np.zeros(2)], SM_DOMAINS)
    assert plan == BOTH
    assert isinstance(plan, Slice)
    assert plan.note() == ""


def test_the_two_parameters_that_matter_are_drawn_and_the_others_stand_at_the_fronts_median() -> None:
    rows = settings(40, "abcd")
    domains: dict[str, Domain] = dict.fromkeys("abcd", UNIT)
    values = [np.array([np.sin(4 * row["d"]) for row in rows]), np.array([row["b"] ** 2 for row in rows])]
    plan = plan_slice(rows, rows[:5], values, domains)
    assert isinstance(plan, Slice)
    assert list(plan.axes) == ["b", "d"]
    assert plan.fixed == {name: sorted(row[name] for row in rows[:5])[2] for name in "ac"}
    assert plan.note().startswith("b and d matter most. Fixed at the front's median (most common category): a=0.")


def test_categories_stand_at_the_fronts_most_common_value_and_integers_stay_integers() -> None:
    domains: dict[str, Domain] = {
        "a": UNIT,
        "b": UNIT,
        "width": Range(low=1, high=4, integer=True),
        "name": Choices(choices=("x", "y")),
    }
    rows = [{**row, "width": 1 + i % 4, "name": "xyy"[i % 3]} for i, row in enumerate(settings(12, "ab"))]
    values = [np.array([row["a"] + row["b"] for row in rows])]
    plan = plan_slice(rows, rows[:4], values, domains)
    assert isinstance(plan, Slice)
    assert list(plan.axes) == ["a", "b"]
    assert plan.fixed == {"width": 2, "name": "x"}
    assert isinstance(plan.fixed["width"], int)


def test_importance_is_the_share_of_the_effects_variance() -> None:
    rows = settings(60, "abc")
    values = np.array([2 * row["a"] + row["c"] for row in rows])
    shares = effects(rows, values, dict.fromkeys("abc", UNIT), "abc")
    assert shares.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(shares, [0.8, 0.0, 0.2], atol=0.03)


@pytest.mark.parametrize(
    ("names", "n", "line"),
    [
        ("", 9, "No surfaces: they need two numeric parameters, the space has 0."),
        ("a", 9, "No surfaces: they need two numeric parameters, the space has 1."),
        ("ab", 0, "No surfaces: no trial that has every parameter is complete."),
        ("abc", 5, "No surfaces: 3 parameters need at least 6 settings, got 5."),
    ],
)
def test_what_cannot_be_drawn_is_one_line(names: str, n: int, line: str) -> None:
    rows = settings(n, names)
    assert plan_slice(rows, rows, [np.zeros(n)], dict.fromkeys(names, UNIT)) == line


def test_a_parameter_that_never_varies_is_no_axis() -> None:
    rows = [{**row, "a": 0.5} for row in settings(20, "bc")]
    plan = plan_slice(rows, rows, [np.array([row["b"] for row in rows])], dict.fromkeys("abc", UNIT))
    assert isinstance(plan, Slice)
    assert (list(plan.axes), plan.fixed) == (["b", "c"], {"a": 0.5})


def test_a_slice_is_drawn_where_the_others_stand() -> None:
    rows = [{**row, "name": "xy"[i % 2]} for i, row in enumerate(settings(50, "abc"))]
    domains: dict[str, Domain] = {**dict.fromkeys("abc", UNIT), "name": Choices(choices=("x", "y"))}
    values = np.array([row["a"] + 3 * row["c"] + (row["name"] == "y") for row in rows])
    heights = []
    for c, name in ((0.2, "x"), (0.8, "x"), (0.2, "y")):
        drawn = surface(rows, values, None, domains, Slice({"a": UNIT, "b": UNIT}, {"c": c, "name": name}))
        assert drawn is not None
        heights.append(float(drawn.at(np.array([[0.5, 0.5]]))[0]))
    np.testing.assert_allclose(heights, [0.5 + 0.6, 0.5 + 2.4, 0.5 + 0.6 + 1], atol=0.15)
    assert surface(rows[:5], values[:5], None, domains, Slice({"a": UNIT, "b": UNIT}, {"c": 0.5, "name": "x"})) is None


def test_logarithmic_parameters_lie_on_their_axis_as_logarithms() -> None:
    rows = [{"train.learning_rate": 0.001, "model.width": 3}, {"train.learning_rate": 0.1, "model.width": 1}]
    axes = {
        "train.learning_rate": Range(low=1e-4, high=1e-1, log=True),
        "model.width": Range(low=1, high=4, integer=True),
    }
    points = positions(rows, axes)
    np.testing.assert_allclose(points, [[-3, 3], [-1, 1]])
