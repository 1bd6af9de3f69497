"""FMN: what it must find on models whose boundaries are known, and foolbox's on a trained network."""

from __future__ import annotations

import foolbox
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.attacks.foolbox_norms import assert_norms_at_most_foolboxs
from tests.trainables.victims import digits, linear, trained
from trainables.attacks import AttackResult
from trainables.attacks.ddn import DDN
from trainables.attacks.fmn import FMN
from trainables.settings import Norm


def run(attack: FMN | DDN, model: nn.Module, images: Tensor, labels: Tensor, norm: Norm = "l2") -> AttackResult:
    return attack(model, images, labels, radius=1.0, norm=norm)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_linear_models_images_fall_at_their_distance(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 16, generator=generator)
    images = 0.5 + 0.04 * torch.randn(200, 1, 4, 4, generator=generator)
    model = linear(weights, -weights @ torch.full((16,), 0.5))
    with torch.no_grad():
        logits = model(images)
    normal = weights[0] - weights[1]
    exact = (logits[:, 0] - logits[:, 1]).abs() / (normal.norm() if norm == "l2" else normal.abs().sum())
    norms = run(FMN(), model, images, logits.argmax(1), norm).distance
    torch.testing.assert_close(norms, exact, rtol=2e-3, atol=1e-6)


def test_dark_images_fall_too() -> None:
    """The box takes half of every step there: balls that grow from the image itself stop short of the boundary."""
    images, labels = digits(60)
    result = run(FMN(), trained(), images, labels)
    assert result.distance.isfinite().all()


def test_more_steps_find_shorter_norms_and_the_passes_are_those_of_the_steps() -> None:
    images, labels = digits(40)
    few, many = (run(FMN(steps=steps), trained(), images, labels) for steps in (10, 100))
    attacked = int((few.distance > 0).sum())
    assert many.distance.median() < few.distance.median()
    assert few.forward_passes == len(images) + 11 * attacked
    assert few.backward_passes == 10 * attacked


def test_images_without_gradients_stay() -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    result = run(FMN(steps=5), model, images, torch.zeros(6, dtype=torch.int64))
    assert result.kept.all()
    assert result.distance.isinf().all()


def test_norms_are_at_most_foolboxs_on_a_trained_network() -> None:
    """200 images; ``tests/benchmarks/attacks.py --only fmn --images 1000`` compares 1,000."""
    assert_norms_at_most_foolboxs(FMN(), foolbox.attacks.L2FMNAttack(steps=100, gamma=0.05))
