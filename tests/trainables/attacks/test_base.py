from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.victims import RADIUS, digits, trained
from trainables.attacks import Batch, StepAttack, attack_seed
from trainables.attacks.engine.attack import join
from trainables.attacks.engine.ball import Ball, random_starts
from trainables.attacks.engine.victim import predict, untouched

clean_images = st.integers(0, 2**32 - 1).map(
    lambda seed: torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(seed))
)


def shifted(clean: Tensor, scale: float) -> Tensor:
    return clean + scale * torch.linspace(-1, 1, clean.numel()).view_as(clean).sin()


@settings(deadline=None)
@given(clean=clean_images, scale=st.floats(0, 1e6), radius=st.floats(1e-2, 10))
def test_projection_ends_in_ball_and_box_and_is_idempotent(clean: Tensor, scale: float, radius: float) -> None:
    once = Ball(radius).project(shifted(clean, scale), clean)
    assert once.min() >= 0
    assert once.max() <= 1
    assert ((once - clean).flatten(1).norm(dim=1) <= radius + 1e-6).all()
    torch.testing.assert_close(Ball(radius).project(once, clean), once, atol=1e-6, rtol=0)


@settings(deadline=None)
@given(clean=clean_images, scale=st.floats(0, 1))
def test_projection_leaves_what_is_inside(clean: Tensor, scale: float) -> None:
    inside = shifted(clean, scale).clamp(0, 1)
    torch.testing.assert_close(Ball(10.0).project(inside, clean), inside, atol=1e-6, rtol=0)
    torch.testing.assert_close(Ball(torch.inf).project(inside, clean), inside, atol=1e-6, rtol=0)


def test_projection_shortens_a_change_along_its_own_direction() -> None:
    clean = torch.full((1, 1, 2, 2), 0.5)
    change = torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]])
    expected = clean + change / 5 * 0.2
    torch.testing.assert_close(Ball(0.2).project(clean + change, clean), expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_image_that_is_not_finite_goes_back_alone(bad: float) -> None:
    clean = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    images = clean + 0.01
    images[1, 0, 0, 0] = bad
    result = Ball(1.0).project(images, clean)
    assert torch.equal(result[1], clean[1])
    torch.testing.assert_close(result[[0, 2]], images[[0, 2]].clamp(0, 1))


def test_split_and_join_are_inverses() -> None:
    rows = torch.arange(7)
    images = torch.rand(7, 1, 2, 2)
    batch = Batch(images, rows, torch.rand(7, 3), images + 1, rows + 10, Ball(0.5), {"memory": rows * 2.0})
    parts = batch.split(3)
    assert [len(part) for part in parts] == [3, 3, 1]
    again = join(parts)
    for name in ("clean", "labels", "clean_logits", "images", "index"):
        assert torch.equal(getattr(again, name), getattr(batch, name))
    assert torch.equal(again.memory["memory"], batch.memory["memory"])
    assert again.ball == batch.ball


def test_the_likeliest_rivals_are_in_order_and_without_the_label() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 5.0, 1.0]])
    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 2])
    batch = Batch(images, labels, logits, images, torch.arange(2), Ball(0.5))
    assert batch.rivals(2).tolist() == [[2, 1], [1, 3]]
    assert batch.rivals(9).tolist() == [[2, 1, 3], [1, 3, 0]]


def test_starts_have_uniform_directions_and_lengths() -> None:
    points = random_starts(4000, 5, np.random.default_rng(0))
    length = np.linalg.norm(points, axis=1)
    expected = (np.arange(4000) + 0.5) / 4000
    assert np.abs(np.sort(length) - expected).max() < 1.63 / np.sqrt(4000)  # Kolmogorov-Smirnov, 1 %
    direction = points / length[:, None]
    assert np.abs(direction.mean(axis=0)).max() < 0.03
    np.testing.assert_allclose(np.cov(direction.T), np.eye(5) / 5, atol=0.01)


@settings(deadline=None)
@given(few=st.integers(1, 20), more=st.integers(0, 20), dimensions=st.integers(1, 50))
def test_the_first_starts_do_not_depend_on_their_number(few: int, more: int, dimensions: int) -> None:
    short, long = (random_starts(count, dimensions, np.random.default_rng(7)) for count in (few, few + more))
    np.testing.assert_array_equal(short, long[:few])


@dataclass(frozen=True, kw_only=True)
class Walk(StepAttack):
    """Goes along the diagonal and records how many images it moved in each pass."""

    steps: int = 5  # 0 is allowed here
    moved: list[int] = field(default_factory=list)

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        assert logits.requires_grad
        assert batch.images.requires_grad
        self.moved.append(len(batch))
        count = batch.memory.get("count", torch.zeros(len(batch)))
        # What was remembered must have followed its image when others left.
        assert torch.equal(count, torch.full((len(batch),), float(count[0])))
        batch.memory["count"] = count + 1
        batch.memory["index"] = batch.memory.get("index", batch.index)
        assert torch.equal(batch.memory["index"], batch.index)
        (gradient,) = torch.autograd.grad(logits.gather(1, batch.labels.unsqueeze(1)).sum(), batch.images)
        return batch.images - 0.1 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def test_broken_images_leave_at_once_and_passes_merge() -> None:
    images, labels = digits(64)
    logits = predict(trained(), images, 64)
    walk = Walk(steps=5)
    result = walk(trained(), images, labels, radius=0.6, batch_size=16, logits=logits)
    # Images standing before each pass over the iterates: those that a shorter walk kept.
    standing = [int((logits.argmax(1) == labels).sum())]
    standing += [int(Walk(steps=steps)(trained(), images, labels, radius=0.6).kept.sum()) for steps in range(5)]
    assert standing[0] > 3 * 16
    assert 0 < standing[-1] <= 16  # so the four passes of the first step have become one
    assert result.forward_passes == sum(standing)
    assert result.backward_passes == sum(walk.moved) == sum(standing[:-1])
    assert len(walk.moved) == sum(math.ceil(count / 16) for count in standing[:-1])


def test_more_steps_never_mend_an_image() -> None:
    images, labels = digits(64)
    kept = [Walk(steps=steps)(trained(), images, labels, radius=RADIUS).kept for steps in range(1, 6)]
    assert all(bool((more <= fewer).all()) for fewer, more in pairwise(kept))
    assert kept[0].sum() > kept[-1].sum()


def interrupted(model: nn.Module) -> None:
    with untouched(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not torch.backends.cudnn.allow_tf32
        raise RuntimeError("stop")


def test_the_model_is_restored_when_an_attack_fails() -> None:
    model = copy.deepcopy(trained())
    model[5].train()
    model[6].bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="stop"):
        interrupted(model)
    assert torch.backends.cudnn.allow_tf32, "as torch has it"
    assert [name for name, module in model.named_modules() if module.training] == ["5"]
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["6.bias"]


def test_the_seed_of_an_attack_is_the_same_everywhere() -> None:
    assert attack_seed(0, "pgd50-ce") == 3387483695
    seeds = {attack_seed(seed, label) for seed in range(20) for label in ("pgd50-ce", "pgd50-dlr")}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**32 for seed in seeds)
