from __future__ import annotations

import copy

import foolbox
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from tests.trainables.reference_models import reference_model
from tests.trainables.victims import CLASSES, Scaled, digits, linear, trained
from trainables.attacks import AttackResult
from trainables.attacks.deepfool import SLACK, DeepFool
from trainables.attacks.engine.margins import passes_and_copies, to_hyperplane
from trainables.logits import normalize_logits
from trainables.settings import View


def run(
    attack: DeepFool, model: nn.Module, images: Tensor, labels: Tensor, view: View = "raw", batch_size: int = 128
) -> AttackResult:
    return attack(model, images, labels, radius=1.0, view=view, batch_size=batch_size)


def linear_problem(shade: float) -> tuple[nn.Sequential, Tensor, Tensor, Tensor, Tensor]:
    """A linear model of five classes, images of about this shade, and the gaps and normals to the other classes."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(CLASSES, 16, generator=generator)
    images = (shade + 0.04 * torch.randn(200, 1, 4, 4, generator=generator)).clamp(0, 1)
    model = linear(weights, -weights @ images.mean(0).flatten())
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmax(1)
    others = torch.tensor([[k for k in range(CLASSES) if k != label] for label in labels.tolist()])
    return (
        model,
        images,
        labels,
        logits.gather(1, others) - logits.amax(1, keepdim=True),
        weights[others] - weights[labels].unsqueeze(1),
    )


def test_a_linear_models_images_fall_to_one_step_just_beyond_the_nearest_boundary() -> None:
    model, images, labels, gaps, normals = linear_problem(0.5)
    distance = (gaps.abs() / normals.norm(dim=2)).amin(1)
    for candidates in (CLASSES, 10):
        result = run(DeepFool(steps=1, candidates=candidates, overshoot=0.05), model, images, labels)
        torch.testing.assert_close(result.distance, 1.05 * (distance + SLACK), atol=1e-5, rtol=1e-4)
        assert result.backward_passes == (CLASSES - 1) * len(images)


def test_a_box_in_the_way_costs_steps_and_saves_no_image() -> None:
    model, images, labels, gaps, normals = linear_problem(0.02)
    assert (images == 0).float().mean() > 0.2
    flat = normals.flatten(0, 1).view(-1, 1, 4, 4)
    change = to_hyperplane(images.repeat_interleave(CLASSES - 1, 0), gaps.flatten(), flat, "l2")
    nearest = change.flatten(1).norm(dim=1).view(-1, CLASSES - 1).amin(1)
    one, many = (run(DeepFool(steps=steps), model, images, labels) for steps in (1, 50))
    assert one.distance.isinf().sum() > 50
    assert many.distance.isfinite().all()
    assert (many.distance >= nearest - 1e-5).all()
    assert (many.distance / nearest).median() < 1.25


@pytest.mark.parametrize("view", ["raw", "normalized"])
@pytest.mark.parametrize("name", ["sce", "i-sce"])
def test_no_image_is_left(name: str, view: View) -> None:
    images, labels = digits(200)
    result = run(DeepFool(), trained(name), images, labels, view)
    assert result.distance.isfinite().all()
    assert 0.2 < result.distance[result.distance > 0].median() < 2


def alone(model: nn.Module, image: Tensor, label: Tensor, view: View, attack: DeepFool) -> float:
    """DeepFool of one image as in the books; the distance."""
    order = [int(k) for k in model(image)[0].argsort(descending=True) if k != label][: attack.candidates - 1]
    x = image
    for _ in range(attack.steps):
        x = x.detach().requires_grad_()
        z = model(x)
        if z.argmax(1) != label:
            break
        f = normalize_logits(z) if view == "normalized" else z
        steps = []
        for k in order:
            gap = (f[0, k] - f[0, label])[0]
            (gradient,) = torch.autograd.grad(gap, x, retain_graph=True)
            steps.append((float(gap.detach().abs() / gradient.norm()), gradient))
        distance, gradient = min(steps, key=lambda step: step[0])
        x = (x + (1 + attack.overshoot) * (distance + SLACK) * gradient / gradient.norm()).clamp(0, 1)
    return float((x - image).detach().norm()) if model(x).argmax(1) != label else float("inf")


@pytest.mark.parametrize("view", ["raw", "normalized"])
@pytest.mark.parametrize("candidates", [2, 3, 10])
def test_a_batch_is_one_image_at_a_time(view: View, candidates: int) -> None:
    model = copy.deepcopy(trained()).double()
    images, labels = digits(24)
    images = images.double()
    attack = DeepFool(steps=6, candidates=candidates)
    correct = model(images).argmax(1) == labels
    expected = [
        alone(model, image, label, view, attack) if right else 0.0
        for image, label, right in zip(images.split(1), labels.split(1), correct, strict=True)
    ]
    for batch_size in (5, 128):
        result = run(attack, model, images, labels, view, batch_size)
        torch.testing.assert_close(result.distance, torch.tensor(expected).double(), atol=1e-6, rtol=1e-6)


def test_broken_images_leave() -> None:
    images, labels = digits(64)
    model = trained()
    with torch.no_grad():
        attacked = int((model(images).argmax(1) == labels).sum())
    # Images that every step moves: those that fewer steps leave unfooled.
    moved = [attacked] + [
        int(run(DeepFool(steps=k), model, images, labels).distance.isinf().sum()) for k in range(1, 8)
    ]
    assert moved[1] < attacked
    result = run(DeepFool(steps=8), model, images, labels)
    passes, copies = zip(*(passes_and_copies(max(1, standing), CLASSES - 1) for standing in moved), strict=True)
    assert passes[0] > passes[-1]
    assert result.backward_passes == sum(n * p * k for n, p, k in zip(moved, passes, copies, strict=True))
    # Once to be judged, and for the gradients with as many copies as go along.
    assert result.forward_passes == len(images) + sum(n * (1 + k) for n, k in zip(moved, copies, strict=True))


@pytest.mark.parametrize("view", ["raw", "normalized"])
def test_images_without_gradients_stay_and_harm_no_other(view: View) -> None:
    class Dead(nn.Module):
        """Logits that do not move below a mean grey of one half."""

        def forward(self, images: Tensor) -> Tensor:
            shade = torch.relu(images.flatten(1).mean(1, keepdim=True) - 0.5)
            return torch.cat([torch.ones_like(shade), 40 * shade], 1)

    images = torch.cat([torch.full((3, 1, 4, 4), 0.2), torch.full((3, 1, 4, 4), 0.52)])
    labels = torch.zeros(6, dtype=torch.int64)
    result = run(DeepFool(steps=20), Dead(), images, labels, view)
    assert result.distance.isinf().tolist() == [True] * 3 + [False] * 3
    assert result.kept[:3].all()
    assert torch.equal(result.adversarial[:3], images[:3])


def test_the_scale_of_the_logits_changes_nothing() -> None:
    images, labels = digits(64)
    assert DeepFool().invariance == "global"
    plain = run(DeepFool(), trained(), images, labels).distance
    for scale in (1e-3, 10, 1000):
        scaled = run(DeepFool(), Scaled(trained(), scale), images, labels).distance
        torch.testing.assert_close(scaled, plain, atol=1e-4, rtol=1e-3)
    views = [DeepFool()(trained(), images, labels, radius=1.0, view=view) for view in ("raw", "rescaled")]
    torch.testing.assert_close(views[1].distance, views[0].distance, atol=1e-4, rtol=1e-3)


# ---- against others on real images


class Normalized(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return normalize_logits(self.model(images))


def distances(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor) -> Tensor:
    """How far somebody's images lie from the clean ones, infinite where the label survives."""
    with torch.no_grad():
        fooled = model(adversarial).argmax(1) != labels
    return torch.where(fooled, (adversarial - images).flatten(1).norm(dim=1), torch.inf)


def by_foolbox(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=10, overshoot=0.02)
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    adversarial: Tensor = attack.run(wrapped, images.contiguous(), foolbox.criteria.Misclassification(labels))
    return adversarial


def by_torchattacks(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    adversarial: Tensor = torchattacks.DeepFool(model.eval(), steps=50, overshoot=0.02)(images.contiguous(), labels)
    return adversarial


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("theirs", "count"), [(by_foolbox, 1000), (by_torchattacks, 200)])
@pytest.mark.parametrize("view", ["raw", "normalized"])
@pytest.mark.parametrize("loss", ["sce", "i-sce"])
@pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"])
def test_norms_are_not_above_the_others_and_no_image_is_left(data, loss, view, theirs, count) -> None:  # type: ignore[no-untyped-def]
    model, validation = reference_model(data, loss)
    model = copy.deepcopy(model).requires_grad_(False)
    images, labels = validation.images[:count], validation.labels[:count]
    ours = run(DeepFool(), model, images, labels, view).distance
    assert ours.isfinite().all()
    with torch.no_grad():
        correct = model(images).argmax(1) == labels
    adversarial = theirs(Normalized(model).eval() if view == "normalized" else model, images, labels)
    other = distances(model, images, labels, adversarial)
    both = correct & other.isfinite()  # theirs can leave images; no norm is known for those
    print(
        f"\n{data} {loss} {view} {theirs.__name__}: n {int(correct.sum())}, unfooled 0 and "
        f"{int((correct & other.isinf()).sum())}, median norm where both fool {ours[both].median():.4f} and "
        f"{other[both].median():.4f}"
    )
    assert ours[both].median() <= 1.01 * other[both].median()
