from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.trainables.victims import Scaled, digits, linear, trained
from trainables.attacks import Batch
from trainables.attacks.apgd import APGD, checkpoints
from trainables.attacks.engine.attack import AttackLoss
from trainables.attacks.engine.ball import random_starts, uniform_starts
from trainables.attacks.engine.margins import dlr, targeted_dlr
from trainables.logits import normalize_logits
from trainables.settings import Norm, View


@dataclass(frozen=True, kw_only=True)
class Recorded(APGD):
    """APGD that keeps the images and its memory of them at each move."""

    memories: list[dict[str, Tensor]] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        self.images.append(batch.images.detach().clone())
        moved = super().step(batch, logits)
        self.memories.append(dict(batch.memory))
        return moved


# ---- when it halves its step


def test_checkpoints_are_the_papers() -> None:
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    assert list(checkpoints(100)) == [math.ceil(round(share * 100, 6)) for share in shares[1:-1]]
    assert checkpoints(100) == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, [1]), (5, [1, 2, 3, 4, 5]), (20, [4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])]
)
def test_checkpoints_of_few_steps(steps: int, expected: list[int]) -> None:
    assert list(checkpoints(steps)) == expected


def test_a_loss_that_never_rises_halves_the_step_at_every_checkpoint() -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    attack = Recorded(steps=100)
    assert attack(model, images, torch.zeros(6, dtype=torch.int64), radius=0.5).kept.all()
    lengths = [memory["length"] for memory in attack.memories]
    for moves, length in enumerate(lengths):
        halvings = sum(moves >= checkpoint for checkpoint in checkpoints(100))
        torch.testing.assert_close(length, torch.full((6,), 2 * 0.5 / 2**halvings))


def test_a_step_is_halved_for_no_other_image_and_goes_back_to_the_best_point() -> None:
    images, labels = digits(64)
    attack = Recorded(steps=50)
    attack(trained(), images, labels, radius=0.15, batch_size=64)
    halved = 0
    for before, after, at in zip(attack.memories, attack.memories[1:], attack.images[1:], strict=False):
        if len(before["length"]) > len(after["length"]):
            continue  # some images fell in between
        ratio = after["length"] / before["length"]
        assert set(ratio.tolist()) <= {0.5, 1.0}
        assert (ratio == 1).all() or int(before["moves"][0]) in checkpoints(50)
        # What a move starts from is remembered as the point before the next.
        expected = torch.where((ratio == 0.5).view(-1, 1, 1, 1), after["best"], at)
        assert torch.equal(after["before"], expected)
        halved += int((ratio == 0.5).sum())
    assert halved > 20


# ---- what it does, against a plain transcription


def reference(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    norm: Norm,
    steps: int,
    restarts: int,
    targets: int,
    loss: AttackLoss,
    target: str,
    view: View,
    seed: int,
) -> tuple[list[bool], int, int]:
    """Algorithm 1 of Croce and Hein 2020, one image at a time, on cross entropy itself; also its passes."""
    ends = list(checkpoints(steps))
    intervals = dict(zip(ends, [0, *ends], strict=False))
    draw, order = {"l2": (random_starts, 2), "linf": (uniform_starts, math.inf)}[norm]
    kept, forward, backward = [], len(images), 0
    for i, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):

        def project(x: Tensor, image: Tensor = image) -> Tensor:
            change = x - image
            if norm == "l2":
                change = change * min(1.0, radius / float(change.norm()))
            return (image + change.clamp(-radius, radius)).clamp(0, 1)

        clean = model(image)
        standing = bool(clean.argmax(1) == label)
        aims = [c for c in clean.argsort(descending=True)[0].tolist() if c != int(label)][:targets]
        aims = aims if target == "likeliest" else aims[:1]
        for run in range(len(aims) * restarts if standing else 0):
            aim = torch.tensor([aims[run // restarts]])
            noise = torch.from_numpy(draw(len(images), image.numel(), np.random.default_rng([seed, run])))[i]
            x = project(image + radius * (noise / torch.linalg.vector_norm(noise, order)).view_as(image))
            before, best, best_gradient, best_value, best_then = x, x, x, -math.inf, -math.inf
            length, halved, values = 2 * radius, True, []
            for k in range(steps + 1):
                x = x.detach().requires_grad_()
                z = model(x)
                forward += 1
                backward += k < steps
                if z.argmax(1) != label:
                    standing = False
                    break
                if k == steps:
                    break
                f = normalize_logits(z) if view == "normalized" else z
                value = {
                    ("ce", "untargeted"): lambda f=f, label=label: F.cross_entropy(f, label),
                    ("ce", "likeliest"): lambda f=f, aim=aim: -F.cross_entropy(f, aim),
                    ("dlr", "untargeted"): lambda f=f, label=label: dlr(f, label).sum(),
                    ("dlr", "likeliest"): lambda f=f, label=label, aim=aim: targeted_dlr(f, label, aim).sum(),
                }[loss, target]()
                (gradient,) = torch.autograd.grad(value, x)
                x = x.detach()
                values.append(float(value.detach()))
                if values[-1] > best_value:
                    best, best_gradient, best_value = x, gradient, values[-1]
                if k in intervals:
                    window = values[intervals[k] :]
                    # The first move from the start does not count.
                    rises = sum(later > earlier for earlier, later in list(pairwise(window))[intervals[k] == 0 :])
                    halve = rises <= 0.75 * (len(window) - 1) or (not halved and best_value == best_then)
                    if halve:
                        length, x, gradient = length / 2, best, best_gradient
                    halved, best_then = halve, best_value
                direction = gradient / gradient.norm() if norm == "l2" else gradient.sign()
                z = project(x + length * direction)
                a = 0.75 if k else 1.0
                before, x = x, project(x + a * (z - x) + (1 - a) * (x - before))
            if not standing:
                break
        kept.append(standing)
    return kept, forward, backward


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("view", ["normalized", "raw"])
@pytest.mark.parametrize("target", ["untargeted", "likeliest"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_it_is_algorithm_1(loss: AttackLoss, target: str, view: View, norm: Norm) -> None:
    model = copy.deepcopy(trained()).double()
    images, labels = digits(24)
    images = images.double()
    radius = {"l2": 0.22, "linf": 0.03}[norm]
    expected, forward, backward = reference(
        model,
        images,
        labels,
        radius=radius,
        norm=norm,
        steps=12,
        restarts=2,
        targets=3,
        loss=loss,
        target=target,
        view=view,
        seed=4,
    )
    attack = APGD(loss=loss, target=target, steps=12, restarts=2, targets=3)
    result = attack(model, images, labels, radius=radius, norm=norm, view=view, seed=4, batch_size=7)
    assert result.kept.tolist() == expected
    assert 0 < sum(expected) < 24
    assert (result.forward_passes, result.backward_passes) == (forward, backward)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_starts_at_the_radius(norm: Norm) -> None:
    images = torch.full((50, 1, 4, 4), 0.5)
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    attack = Recorded(steps=1)
    attack(model, images, torch.zeros(50, dtype=torch.int64), radius=0.1, norm=norm, batch_size=50)
    order = {"l2": 2, "linf": math.inf}[norm]
    length = torch.linalg.vector_norm((attack.images[0] - images).flatten(1), order, dim=1)
    torch.testing.assert_close(length, torch.full((50,), 0.1))


# ---- the likeliest classes


def test_each_target_gets_its_restarts_the_likeliest_first() -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.2, 0.5, 0.0]))
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    attack = Recorded(loss="ce", target="likeliest", steps=2, restarts=2, targets=2)
    attack(model, images, torch.zeros(3, dtype=torch.int64), radius=0.1)
    assert [memory["target"].tolist() for memory in attack.memories] == [[c] * 3 for c in (2, 2, 2, 2, 1, 1, 1, 1)]


def test_there_are_no_more_targets_than_wrong_classes() -> None:
    images, labels = digits(12)
    nine, four = (APGD(loss="dlr", target="likeliest", steps=3, targets=targets) for targets in (9, 4))
    results = [attack(trained(), images, labels, radius=0.05) for attack in (nine, four)]
    assert results[0].kept.any()
    assert results[0].forward_passes == results[1].forward_passes


@pytest.mark.parametrize(
    ("classes", "target", "least"), [(2, "untargeted", "3"), (3, "likeliest", "4")], ids=["untargeted", "targeted"]
)
def test_dlr_needs_enough_classes(classes: int, target: str, least: str) -> None:
    model = linear(torch.eye(classes, 4), torch.zeros(classes))
    images = torch.eye(classes, 4).view(classes, 1, 2, 2)
    with pytest.raises(ValueError, match=rf"^loss must be ce for fewer than {least} classes, got dlr.*; choose ce$"):
        APGD(loss="dlr", target=target, steps=2)(model, images, torch.arange(classes), radius=0.1)
    assert APGD(loss="ce", target=target, steps=2)(model, images, torch.arange(classes), radius=1e-3).kept.all()


# ---- what it finds


def linear_problem(classes: int) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """A linear model, images about mid-grey, and what their distances to the boundaries follow from.

    Returns:
        Model, images (n, 1, 4, 4), labels (n,), and the rows w_y - w_j (n, classes, 16) beside the gaps z_y - z_j
        (n, classes) as one tensor (n, classes, 17).
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(classes, 16, generator=generator)
    images = 0.5 + 0.04 * torch.randn(300, 1, 4, 4, generator=generator)
    model = linear(weights, -weights @ torch.full((16,), 0.5))
    with torch.no_grad():
        logits = model(images)
    labels = logits.argmax(1)
    gaps = logits.gather(1, labels.unsqueeze(1)) - logits
    return model, images, labels, torch.cat([weights[labels].unsqueeze(1) - weights, gaps.unsqueeze(2)], dim=2)


def boundary(rows: Tensor, labels: Tensor, norm: Norm) -> Tensor:
    """Each image's distance to the nearest boundary, (n,)."""
    slope = torch.linalg.vector_norm(rows[:, :, :-1], {"l2": 2, "linf": 1}[norm], dim=2)
    return (rows[:, :, -1] / slope.clamp_min(1e-9)).scatter(1, labels.unsqueeze(1), torch.inf).amin(1)


@pytest.mark.parametrize(("norm", "radius"), [("l2", 0.04), ("linf", 0.012)])
def test_a_linear_models_images_break_exactly_within_their_distance(norm: Norm, radius: float) -> None:
    model, images, labels, rows = linear_problem(2)
    distance = boundary(rows, labels, norm)
    for target in ("untargeted", "likeliest"):
        kept = APGD(loss="ce", target=target, steps=20)(model, images, labels, radius=radius, norm=norm).kept
        assert not kept[distance < 0.99 * radius].any()
        assert kept[distance > 1.0001 * radius].all()
        assert 50 < kept.sum() < 250


def test_going_towards_every_class_finds_the_nearest_boundary() -> None:
    model, images, labels, rows = linear_problem(6)
    distance = boundary(rows, labels, "l2")
    radius = 0.03
    untargeted, targeted = (
        APGD(loss="dlr", target=target, steps=50)(model, images, labels, radius=radius).kept
        for target in ("untargeted", "likeliest")
    )
    within = distance < 0.97 * radius
    for kept in (untargeted, targeted):
        assert kept[distance > 1.0001 * radius].all()
    assert within.sum() > 50
    assert not targeted[within].any()


def test_zero_gradients_keep_the_image() -> None:
    model = linear(torch.zeros(4, 16), torch.tensor([1.0, 0.5, 0.2, 0.0]))
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for loss in ("ce", "dlr"):
        for target in ("untargeted", "likeliest"):
            assert APGD(loss=loss, target=target, steps=3)(
                model, images, torch.zeros(6, dtype=torch.int64), radius=1.0
            ).kept.all()


def test_more_targets_never_mend_an_image() -> None:
    images, labels = digits(96)
    kept = [
        APGD(loss="dlr", target="likeliest", steps=2, targets=n)(trained(), images, labels, radius=0.25).kept
        for n in (1, 2, 4)
    ]
    assert all(bool((more <= fewer).all()) for fewer, more in pairwise(kept))
    assert kept[0].sum() > kept[-1].sum()


@pytest.mark.parametrize("target", ["untargeted", "likeliest"])
def test_the_margin_loss_finds_the_same_at_every_scale_of_the_logits(target: str) -> None:
    images, labels = digits(96)
    attack = APGD(loss="dlr", target=target, steps=10)
    assert attack.invariance == "per-image"
    assert APGD(loss="ce", target=target).invariance == "none"
    kept = [
        int(attack(Scaled(trained(), scale), images, labels, radius=0.25, view=view).kept.sum())
        for scale in (1, 10, 100, 1000)
        for view in ("normalized", "raw")
    ]
    assert max(kept) - min(kept) <= 1
    assert 10 < kept[0] < 80
