from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor

from tests.trainables.reference_models import reference_model
from tests.trainables.victims import RADIUS, Scaled, digits, linear, trained
from trainables.attacks import Batch
from trainables.attacks.engine.ball import Ball
from trainables.attacks.engine.margins import margin
from trainables.attacks.engine.windows import hump_and_dip, stripes, tiles, uniform
from trainables.attacks.square import Square, window_size
from trainables.settings import Norm

each_norm = pytest.mark.parametrize("norm", get_args(Norm))


def theirs(norm: Norm) -> torchattacks.Square:
    """The reference attack, set up for one image as its own loop does it."""
    attack = torchattacks.Square(linear(torch.eye(3, 4), torch.zeros(3)), norm={"l2": "L2", "linf": "Linf"}[norm])
    attack.rescale_schedule = False
    return attack


def batch(count: int, channels: int = 3, size: int = 10, norm: Norm = "l2") -> Batch:
    clean = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(clean, labels, torch.zeros(count, 4), clean, torch.arange(count), Ball(0.7, norm))


# ---- windows and patterns


@each_norm
@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_windows_are_the_reference_codes(norm: Norm, size: int, share: float) -> None:
    reference = theirs(norm)
    reference.p_init = share
    for candidate in range(10_000):
        area = reference.p_selection(candidate) * size * size
        expected = max(int(round(math.sqrt(area))), 1)  # noqa: RUF046
        if norm == "l2":
            expected = max(expected, 3)
            expected += expected % 2 == 0
        assert window_size(candidate, share, size, size, norm) == expected, candidate


@each_norm
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (8, 4), (28, 28)])
def test_windows_fit_in_the_image(norm: Norm, height: int, width: int) -> None:
    sizes = [window_size(candidate, 1.0, height, width, norm) for candidate in (0, 40, 9000)]
    assert all(1 <= size <= min(height, width) for size in sizes)
    assert norm == "linf" or all(size % 2 for size in sizes)


@pytest.mark.parametrize("size", [2, 3, 5, 6, 9, 23, 25])
def test_the_pattern_is_the_reference_codes(size: int) -> None:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        patterns = [theirs("l2").eta(size) for _ in range(16)]
    ours = hump_and_dip(size)
    same = [torch.allclose(pattern, ours, atol=1e-6) for pattern in patterns]
    turned = [torch.allclose(pattern, ours.T, atol=1e-6) for pattern in patterns]
    assert all(a or b for a, b in zip(same, turned, strict=True))
    assert any(same)
    assert any(turned)


def test_starts_lie_on_the_surface_of_the_ball() -> None:
    images = batch(6)
    torch.testing.assert_close(Ball(1).size(tiles(images, np.random.default_rng(0))).flatten(), torch.ones(6))
    columns = stripes(images, np.random.default_rng(0))
    assert columns.shape == (6, 3, 1, 10)
    assert set(columns.flatten().tolist()) == {-1.0, 1.0}


@each_norm
def test_a_candidate_changes_its_windows_alone_and_stays_on_the_surface(norm: Norm) -> None:
    attack = Square(share=0.2)
    images = batch(64, size=20, norm=norm)
    start = attack.propose(images, 0, np.random.default_rng(0))
    images.images = start
    candidates = attack.propose(images, 20, np.random.default_rng(1))
    side = window_size(19, 0.2, 20, 20, norm)
    distance = images.ball.distance(candidates, images.clean)
    torch.testing.assert_close(distance, torch.full((64,), 0.7), rtol=1e-5, atol=0)
    old, new = start - images.clean, candidates - images.clean
    # In L2 all is brought back to the surface by one factor, since two windows that overlap may hold too little.
    outside = (old - new).abs() < 1e-6 if norm == "linf" else (old.sign() == new.sign()) & (new != 0)
    changed = (~outside).any(1)
    windows = 1 if norm == "linf" else 2
    assert (changed.flatten(1).sum(1) <= windows * side**2).all()
    reached = changed.any(0)
    assert all(edge.any() for edge in (reached[0], reached[-1], reached[:, 0], reached[:, -1]))
    assert torch.equal(images.images, start)
    if norm == "linf":
        columns, rows = changed.any(1), changed.any(2)
        assert (columns.sum(1) <= side).all()  # fewer where all channels had the new sign already
        assert ((rows.sum(1) == side) | (rows.sum(1) == 0)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_mass_is_kept_in_every_channel(channels: int) -> None:
    """Windows of a start that fills the radius hand on their norm, so each channel keeps its own."""
    images = batch(32, channels, size=20)
    images.images = images.clean + 0.7 * tiles(images, np.random.default_rng(0))
    candidates = Square(share=0.2).propose(images, 20, np.random.default_rng(1))
    before, after = ((x - images.clean).square().sum((2, 3)) for x in (images.images, candidates))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-6)


def test_draws_depend_on_the_position_alone() -> None:
    images = batch(9)
    whole = uniform(images, 7, np.random.default_rng(3))
    part = uniform(images.take(torch.tensor([2, 5])), 7, np.random.default_rng(3))
    np.testing.assert_array_equal(part, whole[[2, 5]])


# ---- what it does


@each_norm
def test_margins_never_rise_after_the_start(norm: Norm) -> None:
    class Watched(Square):
        def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
            if query > 0:
                best = -margin(batch.memory["logits"], batch.labels)
                torch.testing.assert_close(best, -margin(trained()(batch.images), batch.labels), atol=1e-5, rtol=0)
                for i, value in zip(batch.index.tolist(), best.tolist(), strict=True):
                    assert value <= history.setdefault(i, [value])[-1]
                    history[i].append(value)
            return super().accept(batch, query, logits)

    history: dict[int, list[float]] = {}
    images, labels = digits(24)
    Watched(queries=60)(trained(), images, labels, radius=RADIUS / (1 if norm == "l2" else 6), norm=norm, batch_size=24)
    falls = [len(set(values)) for values in history.values()]
    assert max(map(len, history.values())) == 60
    assert max(falls) > 5


@each_norm
def test_more_queries_never_mend_an_image(norm: Norm) -> None:
    images, labels = digits(96)
    radius = 0.25 if norm == "l2" else 0.05
    few, many = (Square(queries=queries)(trained(), images, labels, radius=radius, norm=norm) for queries in (5, 200))
    assert (many.kept <= few.kept).all()
    assert many.kept.sum() < few.kept.sum()
    asked = many.forward_passes - len(images)
    assert 200 * int(many.kept.sum()) < asked < 200 * len(images)


@each_norm
def test_no_scale_of_the_logits_blinds_it(norm: Norm) -> None:
    images, labels = digits(96)
    radius = 0.25 if norm == "l2" else 0.05
    kept = [
        int(Square(queries=100)(Scaled(trained(), scale), images, labels, radius=radius, norm=norm).kept.sum())
        for scale in (1, 10, 100, 1000)
    ]
    assert max(kept) - min(kept) <= 1
    assert 10 < kept[0] < 90


@each_norm
def test_a_linear_models_images_beyond_their_distance_never_break(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 36, generator=generator)
    images = 0.5 + 0.04 * torch.randn(200, 1, 6, 6, generator=generator)
    model = linear(weights, -weights @ torch.full((36,), 0.5))
    logits = model(images).detach()
    dual = (weights[0] - weights[1]).norm(p=2 if norm == "l2" else 1)
    distance = (logits[:, 0] - logits[:, 1]).abs() / dual
    radius = float(distance.median())
    kept = Square(queries=400)(model, images, logits.argmax(1), radius=radius, norm=norm).kept
    assert kept[distance > radius * 1.0001].all()
    assert kept[distance < radius * 0.5].float().mean() < 0.1


# ---- against torchattacks


@pytest.mark.slow
@each_norm
@pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"])
@pytest.mark.parametrize("loss", ["sce", "i-sce"])
def test_it_leaves_no_more_standing_than_torchattacks(
    data: Literal["mnist5k", "fashion-mnist"], loss: Literal["sce", "i-sce"], norm: Norm
) -> None:
    model, split = reference_model(data, loss)
    radius = {"mnist5k": {"l2": 1.5, "linf": 0.1}, "fashion-mnist": {"l2": 0.75, "linf": 0.04}}[data][norm]
    images, labels = split.images[:300], split.labels[:300]
    ours = Square(queries=1000)(model, images, labels, radius=radius, norm=norm).kept
    square = torchattacks.Square(
        model, norm={"l2": "L2", "linf": "Linf"}[norm], eps=radius, n_queries=1000, loss="margin", resc_schedule=False
    )
    with torch.no_grad():
        correct = model(images).argmax(1) == labels
        reference = correct & (model(square(images.contiguous(), labels)).argmax(1) == labels)
    assert 0.1 < reference.float().mean() < 0.9
    assert ours.float().mean() <= reference.float().mean() + 0.015
