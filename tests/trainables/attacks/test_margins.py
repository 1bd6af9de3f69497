from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from tests.trainables.victims import CLASSES, digits, linear, trained
from trainables.attacks import Attack
from trainables.attacks.apgd import APGD
from trainables.attacks.engine import margins
from trainables.attacks.engine.margins import (
    MOST_COPIES,
    dlr,
    log_odds_against,
    log_probability_margin,
    margin,
    nearest_boundary,
    passes_and_copies,
    targeted_dlr,
    to_hyperplane,
)
from trainables.attacks.engine.victim import Victim
from trainables.attacks.pgd import PGD
from trainables.settings import Norm

# ---- losses


def random_logits(classes: int = 6, count: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=torch.double)
    return logits, torch.randint(classes, (count,), generator=generator)


def test_dlr_is_equation_6() -> None:
    logits, labels = random_logits()
    for z, y, value in zip(logits.tolist(), labels.tolist(), dlr(logits, labels).tolist(), strict=True):
        ordered = sorted(z, reverse=True)
        others = max(z[i] for i in range(len(z)) if i != y)
        assert value == pytest.approx(-(z[y] - others) / (ordered[0] - ordered[2]))


def test_targeted_dlr_is_equation_7() -> None:
    logits, labels = random_logits()
    targets = (labels + 2) % 6
    values = targeted_dlr(logits, labels, targets)
    for z, y, t, value in zip(logits.tolist(), labels.tolist(), targets.tolist(), values.tolist(), strict=True):
        ordered = sorted(z, reverse=True)
        assert value == pytest.approx(-(z[y] - z[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2))


@settings(deadline=None)
@given(scale=st.floats(1e-2, 1e4), seed=st.integers(0, 1000))
def test_dlr_does_not_see_the_scale(scale: float, seed: int) -> None:
    logits, labels = random_logits(seed=seed, count=8)
    targets = (labels + 1) % 6
    torch.testing.assert_close(dlr(scale * logits, labels), dlr(logits, labels))
    torch.testing.assert_close(targeted_dlr(scale * logits, labels, targets), targeted_dlr(logits, labels, targets))


def test_dlr_of_equal_logits_is_finite() -> None:
    logits = torch.zeros(2, 5, requires_grad=True)
    labels = torch.tensor([0, 1])
    for value in (dlr(logits, labels), targeted_dlr(logits, labels, labels + 1)):
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_log_odds_climb_in_the_direction_of_cross_entropy() -> None:
    logits, labels = random_logits()
    logits.requires_grad_()
    p = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    odds = log_odds_against(logits, labels)
    torch.testing.assert_close(odds, ((1 - p) / p).log())
    (ours,) = torch.autograd.grad(odds.sum(), logits)
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), logits)
    torch.testing.assert_close(F.normalize(ours), F.normalize(theirs))


def test_log_odds_do_not_underflow_where_cross_entropy_does() -> None:
    logits = torch.tensor([[300.0, 0.0, -5.0]], requires_grad=True)
    label = torch.tensor([0])
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, label), logits)
    (ours,) = torch.autograd.grad(log_odds_against(logits, label).sum(), logits)
    assert not theirs.any()
    torch.testing.assert_close(ours, torch.tensor([[-1.0, 0.9933, 0.0067]]), atol=1e-4, rtol=0)


# ---- boundaries

DIMENSIONS = 6
grey = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))
slope = st.one_of(st.just(0.0), st.floats(0.125, 3, width=32), st.floats(-3, -0.125, width=32))
rows = st.tuples(
    st.lists(grey, min_size=DIMENSIONS, max_size=DIMENSIONS),
    st.lists(slope, min_size=DIMENSIONS, max_size=DIMENSIONS),
    st.floats(-4, 4, width=32),
)
problems = st.lists(rows, min_size=1, max_size=4)


def as_tensors(problem: list[tuple[list[float], list[float], float]]) -> tuple[Tensor, Tensor, Tensor]:
    points, normals, gaps = (torch.tensor(values) for values in zip(*problem, strict=True))
    return points.view(-1, 1, 2, 3), gaps, normals.view(-1, 1, 2, 3)


def smallest(points: np.ndarray, gap: float, normal: np.ndarray, norm: Norm) -> float:
    """The norm of the smallest change in the box that ends on the hyperplane, by general solvers."""
    bounds = list(zip(-points, 1 - points, strict=True))
    if norm == "l2":
        start = np.clip(-gap * normal / (normal @ normal), *np.array(bounds).T)
        on_plane = {"type": "eq", "fun": lambda d: normal @ d + gap, "jac": lambda _: normal}
        solution = minimize(
            lambda d: d @ d,
            start,
            jac=lambda d: 2 * d,
            bounds=bounds,
            constraints=on_plane,
            options={"ftol": 1e-12, "maxiter": 500},
        )
        return float(np.sqrt(solution.fun))
    ones, none = np.ones((DIMENSIONS, 1)), np.zeros(DIMENSIONS)
    within = np.vstack([np.hstack([np.eye(DIMENSIONS), -ones]), np.hstack([-np.eye(DIMENSIONS), -ones])])
    solution = linprog(
        np.append(none, 1.0),
        A_ub=within,
        b_ub=np.zeros(2 * DIMENSIONS),
        A_eq=np.append(normal, 0.0)[None],
        b_eq=[-gap],
        bounds=[*bounds, (0, None)],
    )
    return float(solution.fun)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@settings(deadline=None, max_examples=60)
@given(problem=problems)
def test_the_change_is_the_smallest_that_ends_on_the_hyperplane_in_the_box(
    norm: Norm, problem: list[tuple[list[float], list[float], float]]
) -> None:
    points, gaps, normals = as_tensors(problem)
    changes = to_hyperplane(points, gaps, normals, norm).flatten(1).double().numpy()
    flat, slopes = (values.flatten(1).double().numpy() for values in (points, normals))
    assert (flat + changes >= -1e-6).all()
    assert (flat + changes <= 1 + 1e-6).all()
    for point, change, gap, normal in zip(flat, changes, gaps.tolist(), slopes, strict=True):
        reach = np.abs(normal) @ np.where(normal * -gap > 0, 1 - point, point)
        left = gap + normal @ change
        if reach < abs(gap):
            assert abs(left) == pytest.approx(abs(gap) - reach, abs=1e-4)  # the nearest corner
            continue
        assert left == pytest.approx(0, abs=1e-4)
        if 1e-3 < abs(gap) < reach - 1e-3:  # where the general solvers are exact
            size = np.linalg.norm(change, {"l2": 2, "linf": np.inf}[norm])
            assert size == pytest.approx(smallest(point, gap, normal, norm), abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(problem=problems)
def test_a_change_does_not_depend_on_the_points_beside_it(
    problem: list[tuple[list[float], list[float], float]],
) -> None:
    points, gaps, normals = as_tensors(problem)
    for norm in ("l2", "linf"):
        alone = [
            to_hyperplane(points[i : i + 1], gaps[i : i + 1], normals[i : i + 1], norm) for i in range(len(points))
        ]
        torch.testing.assert_close(to_hyperplane(points, gaps, normals, norm), torch.cat(alone), atol=1e-5, rtol=0)


def test_many_coordinates_end_on_the_hyperplane_too() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(50, 3, 32, 32, generator=generator).round(decimals=1)
    normals = torch.randn(50, 3, 32, 32, generator=generator) ** 3
    reach = (normals.abs() * torch.where(normals > 0, 1 - points, points)).sum((1, 2, 3))
    gaps = -reach * torch.rand(50, generator=generator)
    for norm in ("l2", "linf"):
        change = to_hyperplane(points, gaps, normals, norm)
        left = gaps + (normals * change).sum((1, 2, 3))
        assert (left.abs() < 1e-4 * reach).all()


def test_the_nearest_boundary_of_a_linear_model() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(5, 6, generator=generator)
    weights[3] = weights[0]  # a rival that no change brings nearer
    model = linear(weights, torch.tensor([0.0, 0.0, 0.0, -0.1, 0.0]))
    images = torch.rand(40, 1, 2, 3, generator=generator).requires_grad_()
    logits = model(images).detach()
    labels = torch.zeros(40, dtype=torch.int64)
    rivals = torch.tensor([1, 2, 3, 4]).expand(40, 4)
    for norm, dual in (("l2", 2), ("linf", 1)):
        boundary = nearest_boundary(model, images, labels, rivals, norm)  # type: ignore[arg-type]
        for i in range(40):
            normals = {k: weights[k] - weights[0] for k in (1, 2, 4)}
            gaps = {k: float(logits[i, k] - logits[i, 0]) for k in normals}
            distances = {k: abs(gaps[k]) / float(normals[k].norm(p=dual)) for k in normals}
            nearest = min(distances, key=distances.__getitem__)
            assert float(boundary.distance[i]) == pytest.approx(distances[nearest], rel=1e-4)
            assert float(boundary.gap[i]) == pytest.approx(gaps[nearest], rel=1e-4, abs=1e-6)
            torch.testing.assert_close(boundary.normal[i].flatten(), normals[nearest])
    none = nearest_boundary(model, images, labels, torch.full((40, 1), 3), "l2")
    assert none.distance.isposinf().all()
    assert not none.gap.any()
    assert not none.normal.any()


@pytest.mark.parametrize("most", [0, MOST_COPIES])
def test_gradients_that_are_not_finite_are_no_boundary(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margins, "MOST_COPIES", most)

    def logits(images: Tensor) -> Tensor:
        first = images.sum((1, 2, 3))
        factors = torch.tensor([1.0, torch.nan, torch.inf]).repeat(len(images) // 3)
        return torch.stack([torch.zeros_like(first), first, first * factors], 1)

    labels, rivals = torch.zeros(3, dtype=torch.int64), torch.tensor([[2, 2]] * 3)
    boundary = nearest_boundary(logits, torch.rand(3, 1, 2, 3), labels, rivals, "l2")
    assert boundary.distance.isfinite().tolist() == [True, False, False]
    assert boundary.normal.isfinite().all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_passes_of_copies_find_what_a_pass_for_each_rival_finds(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy.deepcopy(trained("i-sce")).double()
    images, labels = digits(8)
    images = images.double()
    rivals = torch.tensor([[k for k in range(CLASSES) if k != label][:3] for label in labels.tolist()])
    boundaries, passed = [], []
    for cost in (0, 11, 24):
        monkeypatch.setattr(margins, "PASS_COST", cost)
        victim = Victim(model, "normalized")
        boundaries.append(nearest_boundary(victim, images, labels, rivals, norm))
        passed.append((victim.forward_passes, victim.backward_passes))
    assert passed == [(8, 3 * 8), (2 * 8, 2 * 2 * 8), (3 * 8, 3 * 8)]  # the second time one of the rivals twice
    for name in ("gap", "normal", "distance"):
        for boundary in boundaries[1:]:
            torch.testing.assert_close(getattr(boundary, name), getattr(boundaries[0], name))


@given(images=st.integers(1, 2000), rivals=st.integers(1, 999))
def test_passes_of_copies_serve_all_rivals_and_hold_little(images: int, rivals: int) -> None:
    passes, copies = passes_and_copies(images, rivals)
    assert rivals <= passes * copies < rivals + passes
    assert images * copies <= max(images, MOST_COPIES)
    more, fewer = passes_and_copies(2 * images, rivals), passes_and_copies(max(1, images // 2), rivals)
    assert more[1] <= copies <= fewer[1]


def test_the_margin_is_the_best_wrong_logit_over_the_true_one() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.5], [0.0, 4.0, 9.0]])
    torch.testing.assert_close(margin(logits, torch.tensor([0, 1])), torch.tensor([-0.5, 5.0]))


def test_the_probability_margin_is_the_papers_where_that_can_be_computed() -> None:
    logits = torch.randn(64, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(64) % 7
    p = logits.softmax(1)
    true = p.gather(1, labels[:, None]).squeeze(1)
    wrong = p.scatter(1, labels[:, None], 0.0).amax(1)
    torch.testing.assert_close(log_probability_margin(logits, labels), torch.log1p(wrong - true))


def test_the_probability_margin_has_a_gradient_on_confident_models() -> None:
    logits = torch.tensor([[200.0, 0.0, -1.0]]).requires_grad_()
    (gradient,) = torch.autograd.grad(log_probability_margin(logits, torch.tensor([0])).sum(), logits)
    assert gradient[0, 0] < -0.5
    assert gradient[0, 1] > 0.1


@pytest.mark.parametrize(
    "attack", [lambda: PGD(loss="pm", target="least-likely"), lambda: APGD(loss="pm", target="likeliest")]
)
def test_the_probability_margin_knows_no_targets(attack: Callable[[], Attack]) -> None:
    with pytest.raises(ValueError, match=r"^loss must be ce or dlr for the target .*, got pm; leave target out"):
        attack()
