from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.victims import Scaled, digits, linear, trained
from trainables.attacks.engine.attack import AttackLoss
from trainables.attacks.engine.ball import random_starts
from trainables.attacks.engine.margins import dlr, targeted_dlr
from trainables.attacks.pgd import FIRST_START, PGD, RELATIVE_STEP
from trainables.logits import normalize_logits
from trainables.settings import View


@pytest.mark.parametrize(
    ("classes", "target", "least"), [(2, "untargeted", "3"), (3, "least-likely", "4")], ids=["untargeted", "targeted"]
)
def test_dlr_needs_enough_classes(classes: int, target: str, least: str) -> None:
    model = linear(torch.eye(classes, 4), torch.zeros(classes))
    images = torch.eye(classes, 4).view(classes, 1, 2, 2)
    with pytest.raises(ValueError, match=rf"^loss must be ce for fewer than {least} classes, got dlr.*; choose ce$"):
        PGD(steps=2, loss="dlr", target=target)(model, images, torch.arange(classes), radius=0.1)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert PGD(steps=2, loss="ce", target=target)(model, images, torch.arange(classes), radius=1e-3).kept.all()


# ---- what it finds


def two_class_problem() -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """A linear model, images about mid-grey, and each image's distance to the boundary."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 16, generator=generator)
    images = 0.5 + 0.04 * torch.randn(300, 1, 4, 4, generator=generator)
    model = linear(weights, -weights @ torch.full((16,), 0.5))
    with torch.no_grad():
        logits = model(images)
    distance = (logits[:, 0] - logits[:, 1]).abs() / (weights[0] - weights[1]).norm()
    return model, images, logits.argmax(1), distance


# The logits z are linear, so every step goes straight to the boundary; f is not, and its steps come in at a slant.
@pytest.mark.parametrize(("view", "tightness"), [("raw", 0.99), ("normalized", 0.9)])
@pytest.mark.parametrize("target", ["untargeted", "least-likely"])
def test_a_linear_models_images_break_exactly_within_their_distance(view: View, tightness: float, target: str) -> None:
    model, images, labels, distance = two_class_problem()
    radius = 0.04
    kept = PGD(steps=50, target=target)(model, images, labels, radius=radius, view=view).kept
    assert not kept[distance < tightness * radius].any()
    assert kept[distance > 1.0001 * radius].all()
    assert 50 < kept.sum() < 250


def test_many_class_images_beyond_their_distance_never_break() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(5, 16, generator=generator)
    images = 0.5 + 0.04 * torch.randn(200, 1, 4, 4, generator=generator)
    model = linear(weights, -weights @ torch.full((16,), 0.5))
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmax(1)
    gaps = logits.gather(1, labels.unsqueeze(1)) - logits
    distance = (gaps / torch.cdist(weights, weights)[labels].clamp_min(1e-9)).scatter(1, labels.unsqueeze(1), torch.inf)
    distance = distance.amin(1)
    kept = PGD(steps=50, loss="dlr")(model, images, labels, radius=0.03).kept
    assert kept[distance > 0.03 * 1.0001].all()
    # DLR climbs towards the best rival, which is not always the nearest boundary's: nearly all of the rest break.
    assert kept[distance < 0.03 * 0.99].float().mean() < 0.1


def reference(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    steps: int,
    restarts: int,
    loss: AttackLoss,
    target: str,
    view: View,
    seed: int,
) -> tuple[list[bool], int, int]:
    """PGD as in the books: one image at a time, cross entropy itself, nothing shared; also its passes."""
    kept, forward, backward = [], len(images), 0
    for i, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
        clean = model(image)
        standing = bool(clean.argmax(1) == label)
        for restart in range(restarts):
            if not standing:
                break
            noise = random_starts(len(images), image.numel(), np.random.default_rng([seed, restart]))[i]
            x = image + (1.0 if restart else FIRST_START) * radius * torch.from_numpy(noise).view_as(image)
            for step in range(steps + 1):
                x = image + (x - image) * min(1.0, radius / float((x - image).detach().norm()))
                x = x.clamp(0, 1).detach().requires_grad_()
                z = model(x)
                forward += 1
                backward += step < steps
                if z.argmax(1) != label:
                    standing = False
                    break
                f = normalize_logits(z) if view == "normalized" else z
                aim = clean.argmin(1)
                value = {
                    ("ce", "untargeted"): lambda f=f, label=label: F.cross_entropy(f, label),
                    ("ce", "least-likely"): lambda f=f, aim=aim: -F.cross_entropy(f, aim),
                    ("dlr", "untargeted"): lambda f=f, label=label: dlr(f, label).sum(),
                    ("dlr", "least-likely"): lambda f=f, label=label, aim=aim: targeted_dlr(f, label, aim).sum(),
                }[loss, target]()
                (gradient,) = torch.autograd.grad(value, x)
                x = x + RELATIVE_STEP * radius / steps * gradient / gradient.norm()
        kept.append(standing)
    return kept, forward, backward


@pytest.mark.parametrize("view", ["normalized", "raw"])
@pytest.mark.parametrize("target", ["untargeted", "least-likely"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_the_active_set_changes_nothing_but_the_cost(loss: AttackLoss, target: str, view: View) -> None:
    model = copy.deepcopy(trained()).double()
    images, labels = digits(24)
    images = images.double()
    expected, forward, backward = reference(
        model, images, labels, radius=0.25, steps=5, restarts=2, loss=loss, target=target, view=view, seed=4
    )
    attack = PGD(steps=5, loss=loss, target=target, restarts=2)
    result = attack(model, images, labels, radius=0.25, view=view, seed=4, batch_size=7)
    assert result.kept.tolist() == expected
    assert 0 < sum(expected) < 24
    assert (result.forward_passes, result.backward_passes) == (forward, backward)


def test_more_restarts_never_mend_an_image() -> None:
    images, labels = digits(96)
    kept = [PGD(steps=1, restarts=restarts)(trained(), images, labels, radius=0.3).kept for restarts in (1, 2, 6)]
    assert all(bool((more <= fewer).all()) for fewer, more in pairwise(kept))
    assert kept[0].sum() > kept[-1].sum()


def test_a_random_start_that_is_misclassified_breaks_the_image() -> None:
    model, images, labels, distance = two_class_problem()
    result = PGD(steps=1)(model, images, labels, radius=2.0, logits=model(images).detach())
    assert 0 < result.forward_passes - len(images) < len(images)  # some fell to the first of the two passes
    assert result.backward_passes == len(images)
    assert not result.kept[distance < 1].any()


def test_zero_gradients_keep_the_image() -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for attack in (
        PGD(steps=3),
        PGD(steps=3, loss="dlr"),
        PGD(steps=3, target="least-likely"),
        PGD(steps=3, loss="dlr", target="least-likely"),
    ):
        assert attack(model, images, torch.zeros(6, dtype=torch.int64), radius=1.0).kept.all()


@pytest.mark.parametrize("view", ["normalized", "raw"])
def test_the_margin_loss_finds_the_same_at_every_scale_of_the_logits(view: View) -> None:
    images, labels = digits(96)
    kept = [
        PGD(steps=20, loss="dlr")(Scaled(trained(), scale), images, labels, radius=0.3, view=view).kept.sum().item()
        for scale in (1, 10, 100, 1000)
    ]
    assert max(kept) - min(kept) <= 1
    assert 10 < kept[0] < 80


def test_the_views_agree_for_the_margin_loss() -> None:
    images, labels = digits(64)
    attack = PGD(steps=10, loss="dlr")
    assert attack.invariance == "per-image"
    assert PGD(steps=10).invariance == "none"
    raw, normalized = (attack(trained(), images, labels, radius=0.3, view=view).kept for view in ("raw", "normalized"))
    assert torch.equal(raw, normalized)
