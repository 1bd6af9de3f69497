from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.attacks.pgd import PGD
from trainables.data.splits import Split, load_splits
from trainables.defences._resize_pad import ResizePad, resize_and_pad
from trainables.defences.random_resize_pad import RandomResizePad
from trainables.models.cnn8 import CNN8
from trainables.models.resnet32 import ResNet32
from trainables.robustness.evaluate import evaluate
from trainables.settings import Problem
from trainables.training.loop import train
from trainables.training.replicate import make_replicates


def images(n: int = 200, size: int = 28, channels: int = 1) -> Tensor:
    """No pixel is 0, so that padding can be distinguished from the image."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 + 0.9 * torch.rand(n, channels, size, size, generator=generator)


def bounds(padded: Tensor) -> tuple[int, int, int]:
    """The position of the image within one padded image: top, left and side."""
    rows = (padded[0] > 0).any(1).nonzero().flatten()
    columns = (padded[0] > 0).any(0).nonzero().flatten()
    assert len(rows) == len(columns)
    return int(rows[0]), int(columns[0]), len(rows)


@pytest.mark.parametrize(
    ("size", "channels", "padding", "sides"),
    [(28, 1, 3, {29, 30}), (32, 3, 4, {33, 34, 35}), (28, 1, 1, {28}), (28, 1, 2, {29})],
)
def test_every_image_is_enlarged_by_nearest_neighbours_and_placed_anywhere(
    size: int, channels: int, padding: int, sides: set[int]
) -> None:
    torch.manual_seed(0)
    clean = images(size=size, channels=channels)
    padded = resize_and_pad(clean, padding)
    assert padded.shape == (200, channels, size + padding, size + padding)
    seen = set()
    for one, other in zip(clean, padded, strict=True):
        top, left, side = bounds(other)
        seen.add((top, left, side))
        expected = torch.zeros_like(other)
        expected[:, top : top + side, left : left + side] = F.interpolate(one[None], side, mode="nearest")[0]
        assert torch.equal(other, expected)
    places = {
        (top, left, side)
        for side in sides
        for top in range(size + padding - side + 1)
        for left in range(size + padding - side + 1)
    }
    assert seen == places


def test_gradients_come_back_to_the_pixels_that_were_seen() -> None:
    torch.manual_seed(0)
    clean = images(4).double().requires_grad_()
    padded = resize_and_pad(clean, 3)
    (gradient,) = torch.autograd.grad(padded.sum(), clean)
    assert gradient.min() >= 1  # enlarged images show every pixel
    assert gradient.sum() == (padded > 0).sum()


def test_the_logits_are_the_mean_of_the_draws() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(31 * 31, 10))
    batch = images(8)
    torch.manual_seed(1)
    single = [model(resize_and_pad(batch, 3)) for _ in range(4)]
    torch.manual_seed(1)
    torch.testing.assert_close(ResizePad(model, 3, draws=4)(batch), torch.stack(single).mean(0))
    assert not torch.equal(single[0], single[1])


def test_without_padding_the_model_is_not_wrapped() -> None:
    model = nn.Identity()
    assert RandomResizePad(padding=0).wrap(model) is model


def test_training_is_as_without_the_defence_and_evaluations_repeat(problem: Problem) -> None:
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, replicates=1)
    plain = dataclasses.replace(problem, train=settings)
    defended = dataclasses.replace(plain, defence=RandomResizePad())
    (one,), (two,) = make_replicates(plain, splits), make_replicates(defended, splits)
    results = [list(train([made], splits, each))[-1] for made, each in ((one, plain), (two, defended))]
    assert results[0].train_loss == results[1].train_loss
    assert one.predictor is one.network
    robustness = dataclasses.replace(problem.robustness, attacks=(PGD(steps=3, eot=4), PGD(steps=2)), images=40)
    state = torch.get_rng_state()
    first, second = (evaluate([two.predictor], splits["validation"], robustness, [7]) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert (first.kept == second.kept).all()
    assert (first.clean == second.clean).all()
    assert (first.distance == second.distance).all()
    other = evaluate([two.predictor], splits["validation"], robustness, [8])
    assert (first.distance != other.distance).any()


@pytest.mark.parametrize(("model", "size", "padding"), [(CNN8(), 28, 4), (ResNet32(), 32, 9)])
def test_networks_that_take_the_padded_images_are_accepted(
    problem: Problem, model: CNN8 | ResNet32, size: int, padding: int
) -> None:
    dataclasses.replace(problem, model=model, defence=RandomResizePad(padding=padding)).check((3, size, size), 10)


def test_padding_that_the_model_cannot_take_is_refused_before_training(problem: Problem) -> None:
    splits = {"train": Split(images(10), torch.arange(10))}
    make_replicates(dataclasses.replace(problem, defence=RandomResizePad(padding=3)), splits)
    with pytest.raises(
        ValueError, match=r"^defence.padding must give images that the model accepts, got 4, .* 32x32; "
    ):
        make_replicates(dataclasses.replace(problem, defence=RandomResizePad(padding=4)), splits)


def test_draws_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match=r"^draws must be at least 1, got 0"):
        RandomResizePad(draws=0)
