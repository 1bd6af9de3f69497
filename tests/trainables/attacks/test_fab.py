from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
import torchattacks
from torch import Tensor, nn

from tests.trainables.reference_models import reference_model
from tests.trainables.victims import CLASSES, Scaled, digits, linear, trained
from trainables.attacks import Attack, AttackResult
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.engine.ball import Ball
from trainables.attacks.engine.margins import passes_and_copies, to_hyperplane
from trainables.attacks.fab import FAB
from trainables.settings import Norm, View

ORDERS: dict[Norm, float] = {"l2": 2, "linf": float("inf")}
each_norm = pytest.mark.parametrize("norm", ORDERS)
each_target = pytest.mark.parametrize("target", ["untargeted", "likeliest"])


def run(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm = "l2",
    view: View = "raw",
    batch_size: int = 128,
    seed: int = 0,
    radius: float = 1.0,
) -> AttackResult:
    return attack(model, images, labels, radius=radius, norm=norm, view=view, batch_size=batch_size, seed=seed)


@each_norm
@each_target
@pytest.mark.parametrize("shade", [0.5, 0.03])
def test_a_linear_models_images_fall_at_their_distance_within_the_box(norm: Norm, target: str, shade: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(CLASSES, 16, generator=generator)
    images = (shade + 0.04 * torch.randn(100, 1, 4, 4, generator=generator)).clamp(0, 1)
    model = linear(weights, -weights @ images.mean(0).flatten())
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmax(1)
    distance = torch.full((100,), torch.inf)
    for k in range(CLASSES):
        normal = (weights[k] - weights[labels]).view(-1, 1, 4, 4)
        gap = logits[:, k] - logits.amax(1)
        size = Ball(1.0, norm).distance(images + to_hyperplane(images, gap, normal, norm), images)
        distance = torch.where(labels == k, distance, torch.minimum(distance, size))
    norms = run(FAB(target=target, steps=20), model, images, labels, norm).distance
    assert (norms >= distance - 1e-6).all()
    # Untargeted, the boundary that is nearest whatever the box leads, and within the box it can be another one.
    exact = (norms < 1.001 * distance + 1e-5).float().mean()
    assert exact == 1 if target == "likeliest" or shade == 0.5 else exact > 0.8
    assert (norms < 1.5 * distance).all()


@each_norm
@each_target
@pytest.mark.parametrize("view", ["raw", "normalized"])
def test_the_batch_size_and_the_images_beside_it_change_nothing(norm: Norm, target: str, view: View) -> None:
    model = copy.deepcopy(trained()).double()
    images, labels = digits(20)
    images = images.double()
    attack = FAB(target=target, steps=4, restarts=2, targets=3)
    whole = run(attack, model, images, labels, norm, view)
    assert (whole.distance > 0).sum() > 15
    assert whole.distance.isfinite().all()
    for batch_size in (1, 7):
        parts = run(attack, model, images, labels, norm, view, batch_size)
        torch.testing.assert_close(parts.distance, whole.distance, atol=1e-6, rtol=1e-6)
    some = run(attack, model, images[:9], labels[:9], norm, view)
    torch.testing.assert_close(some.distance, whole.distance[:9], atol=1e-6, rtol=1e-6)
    last = attack(
        model, images, labels, radius=1.0, norm=norm, view=view, standing=torch.arange(20) >= 15, batch_size=128
    )
    torch.testing.assert_close(last.distance[15:], whole.distance[15:], atol=1e-6, rtol=1e-6)


def test_the_passes_are_those_of_the_searches() -> None:
    images, labels = digits(60)
    model = trained()
    with torch.no_grad():
        attacked = int((model(images).argmax(1) == labels).sum())
    for attack, searches, rivals in (
        (FAB(steps=5), 1, CLASSES - 1),
        (FAB(target="likeliest", steps=5, targets=2), 2, 1),
    ):
        result = run(attack, model, images, labels)
        passes, copies = passes_and_copies(searches * attacked, rivals)
        assert result.backward_passes == 5 * searches * attacked * passes * copies
        # Each step's gradients and judgement; then the final search, which looks at where it begins first.
        assert result.forward_passes == len(images) + searches * attacked * (5 * (copies + 1) + 1 + 3)


@each_norm
def test_more_restarts_and_targets_never_lengthen_a_norm(norm: Norm) -> None:
    images, labels = digits(40)
    results = [run(FAB(steps=1, restarts=k), trained(), images, labels, norm).distance for k in (1, 2, 8)]
    targeted = [
        run(FAB(target="likeliest", steps=4, targets=k), trained(), images, labels, norm).distance for k in (1, 2, 4)
    ]
    for distances in (results, targeted):
        assert all(bool((more <= 1.0001 * fewer).all()) for fewer, more in pairwise(distances))
        assert (distances[-1] < 0.999 * distances[0]).any()


def test_restarts_draw_from_the_seed() -> None:
    images, labels = digits(24)
    once = [run(FAB(steps=3), trained(), images, labels, seed=seed).distance for seed in (1, 2)]
    assert torch.equal(*once)  # the first search draws nothing
    several = [run(FAB(steps=3, restarts=4), trained(), images, labels, seed=seed).distance for seed in (1, 2)]
    assert not torch.equal(*several)


def test_the_radius_does_not_steer_it() -> None:
    images, labels = digits(24)
    results = [run(FAB(steps=3, restarts=3), trained(), images, labels, radius=radius) for radius in (0.1, 5.0)]
    torch.testing.assert_close(results[0].distance, results[1].distance)


@each_norm
@each_target
@pytest.mark.parametrize("view", ["raw", "normalized"])
def test_images_without_gradients_stay(norm: Norm, target: str, view: View) -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    result = run(FAB(target=target, steps=3, restarts=2), model, images, torch.zeros(6, dtype=torch.int64), norm, view)
    assert result.kept.all()
    assert result.distance.isinf().all()
    assert torch.equal(result.adversarial, images)


@each_norm
def test_the_scale_of_the_logits_changes_nothing(norm: Norm) -> None:
    images, labels = digits(48)
    assert FAB().invariance == "global"
    plain = run(FAB(steps=10), trained(), images, labels, norm).distance
    for scale in (1e-3, 10, 1000):
        scaled = run(FAB(steps=10), Scaled(trained(), scale), images, labels, norm).distance
        torch.testing.assert_close(scaled, plain, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("view", ["raw", "normalized"])
@pytest.mark.parametrize("name", ["sce", "i-sce"])
def test_its_norms_are_below_deepfools(name: str, view: View) -> None:
    images, labels = digits(96)
    ours, deepfools = (
        run(attack, trained(name), images, labels, view=view).distance for attack in (FAB(steps=20), DeepFool())
    )
    assert ours.isfinite().all()
    assert (ours <= 1.01 * deepfools).float().mean() > 0.9
    assert ours.median() < 0.99 * deepfools.median()


# ---- against torchattacks on real images


def by_torchattacks(model: nn.Module, images: Tensor, labels: Tensor, norm: Norm, target: str, steps: int) -> Tensor:
    """The distances of torchattacks' FAB, infinite where the label survives; no radius makes it stop early."""
    attack = torchattacks.FAB(
        model, norm={"l2": "L2", "linf": "Linf"}[norm], eps=1e6, steps=steps, multi_targeted=target == "likeliest"
    )
    with torch.random.fork_rng(devices=()):
        adversarial = attack(images.contiguous(), labels)
    with torch.no_grad():
        fooled = model(adversarial).argmax(1) != labels
    return torch.where(fooled, Ball(1.0, norm).distance(adversarial, images), torch.inf)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@each_norm
@pytest.mark.parametrize("loss", ["sce", "i-sce"])
@pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"])
def test_norms_and_accuracies_are_not_above_torchattacks(data, loss, norm) -> None:  # type: ignore[no-untyped-def]
    model, validation = reference_model(data, loss)
    model = copy.deepcopy(model).requires_grad_(False)
    images, labels = validation.images[:300], validation.labels[:300]
    ours = run(FAB(steps=50), model, images, labels, norm).distance
    theirs = by_torchattacks(model, images, labels, norm, "untargeted", 50)
    correct = ours > 0
    print(f"\n{data} {loss} {norm}: n {int(correct.sum())}, median norm", end=" ")
    print(f"{ours[correct].median():.4f} and {theirs[correct].median():.4f}, accuracy (%)", end="")
    assert ours.isfinite().all()
    assert ours[correct].median() <= 1.01 * theirs[correct].median()
    for epsilon in {"l2": (0.5, 1.0, 1.5, 2.0), "linf": (0.03, 0.06, 0.1, 0.15)}[norm]:
        our, their = (100 * float((distance[correct] > epsilon).sum()) / len(images) for distance in (ours, theirs))
        print(f", {our:.1f} and {their:.1f} at {epsilon}", end="")
        assert our <= their + 0.5
