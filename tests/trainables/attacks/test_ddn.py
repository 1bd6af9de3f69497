"""DDN: what it must find on models whose boundaries are known, and foolbox's on a trained network."""

from __future__ import annotations

import foolbox
import torch
from torch import Tensor, nn

from tests.trainables.attacks.foolbox_norms import assert_norms_at_most_foolboxs
from tests.trainables.victims import digits, linear, trained
from trainables.attacks import AttackResult
from trainables.attacks.ddn import DDN
from trainables.attacks.deepfool import DeepFool
from trainables.settings import View


def run(attack: DDN | DeepFool, model: nn.Module, images: Tensor, labels: Tensor, view: View = "raw") -> AttackResult:
    return attack(model, images, labels, radius=1.0, view=view)


def test_a_linear_models_images_fall_at_their_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 16, generator=generator)
    images = 0.5 + 0.04 * torch.randn(200, 1, 4, 4, generator=generator)
    model = linear(weights, -weights @ torch.full((16,), 0.5))
    with torch.no_grad():
        logits = model(images)
    exact = (logits[:, 0] - logits[:, 1]).abs() / (weights[0] - weights[1]).norm()
    norms = run(DDN(), model, images, logits.argmax(1)).distance
    assert (norms >= exact * (1 - 1e-4)).all()
    # A sphere of norm 1 shrinks by 0.95 per step, to 0.006 at least, and then moves by 5 % about the boundary.
    far = exact > 0.02
    assert far.sum() > 100
    assert (norms[far] <= 1.06 * exact[far]).all()


def test_more_steps_find_shorter_norms_and_the_passes_are_those_of_the_steps() -> None:
    images, labels = digits(40)
    few, many = (run(DDN(steps=steps), trained(), images, labels) for steps in (10, 100))
    attacked = int((few.distance > 0).sum())
    assert many.distance.median() < few.distance.median()
    assert few.forward_passes == len(images) + 11 * attacked
    assert few.backward_passes == 10 * attacked


def test_its_norms_on_normalised_logits_are_below_deepfools() -> None:
    images, labels = digits(60)
    ours, deepfools = (
        run(attack, trained("i-sce"), images, labels, "normalized").distance for attack in (DDN(), DeepFool())
    )
    assert ours.isfinite().all()
    assert ours.median() < deepfools.median()


def test_images_without_gradients_stay() -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    result = run(DDN(steps=5), model, images, torch.zeros(6, dtype=torch.int64))
    assert result.kept.all()
    assert result.distance.isinf().all()


def test_norms_are_foolboxs_on_a_trained_network() -> None:
    """200 images; ``tests/benchmarks/attacks.py --only ddn --images 1000`` compares 1,000."""
    assert_norms_at_most_foolboxs(DDN(), foolbox.attacks.DDNAttack(init_epsilon=1.0, steps=100, gamma=0.05))
