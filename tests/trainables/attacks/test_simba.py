from __future__ import annotations

import copy
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from torch import Tensor, nn

from tests.trainables.attacks.naive_simba import naive_simba
from tests.trainables.reference_models import reference_model
from tests.trainables.victims import Scaled, digits, linear, trained
from trainables.attacks import Batch
from trainables.attacks.simba import Basis, SimBA, cosines, random_orders
from trainables.settings import View

each_basis = pytest.mark.parametrize("basis", get_args(Basis))


def orders(count: int, shape: tuple[int, int, int], basis: Basis, seed: int) -> list[list[int]]:
    """Each image's order of directions, as the attack draws it."""
    level = np.array([y + x if basis == "dct" else 0 for _, y, x in np.ndindex(shape)], dtype=float)
    return random_orders(count, level, np.random.default_rng([seed, 0])).tolist()


# ---- directions


@each_basis
@settings(deadline=None)
@given(few=st.integers(1, 5), more=st.integers(0, 5), seed=st.integers(0, 99))
def test_orders_are_permutations_and_the_first_do_not_depend_on_their_number(
    basis: Basis, few: int, more: int, seed: int
) -> None:
    short, long = (orders(count, (3, 4, 5), basis, seed) for count in (few, few + more))
    assert short == long[:few]
    assert all(sorted(order) == list(range(60)) for order in long)


def test_low_frequencies_come_first_and_equals_in_random_order() -> None:
    first, second = orders(2, (3, 6, 6), "dct", 0)
    for order in (first, second):
        _, y, x = np.unravel_index(order, (3, 6, 6))
        assert (np.diff(y + x) >= 0).all()
        assert sorted(order[:3]) == [0, 36, 72]  # the constant of each channel
    assert first != second


@pytest.mark.parametrize("size", [1, 2, 5, 28])
def test_cosines_are_scipys_and_orthonormal(size: int) -> None:
    np.testing.assert_allclose(cosines(size), dct(np.eye(size), norm="ortho", axis=0), atol=1e-14)
    np.testing.assert_allclose(cosines(size) @ cosines(size).T, np.eye(size), atol=1e-14)


# ---- against the plain transcription


@each_basis
@pytest.mark.parametrize("view", ["normalized", "raw"])
@pytest.mark.parametrize(("channels", "radius", "queries"), [(1, 0.35, 60), (3, 0.6, 150)])
def test_every_image_goes_the_way_of_the_plain_version(
    basis: Basis, view: View, channels: int, radius: float, queries: int
) -> None:
    model = copy.deepcopy(trained("i-sce", channels)).double()
    images, labels = digits(16, channels)
    images = images.double()
    logits = model(images).detach()
    attack = SimBA(queries=queries, step=0.15, basis=basis)
    result = attack(model, images, labels, radius=radius, view=view, seed=4, batch_size=7, logits=logits)
    total = 0
    for i, order in enumerate(orders(16, tuple(images.shape[1:]), basis, seed=4)):
        clean, label = images[i : i + 1], int(labels[i])
        if logits[i].argmax() != label:
            continue
        naive = naive_simba(
            model, clean, label, order, radius=radius, queries=queries, step=0.15, basis=basis, view=view
        )
        assert bool(result.kept[i]) is not naive.broken
        if naive.broken:
            torch.testing.assert_close(result.adversarial[i : i + 1], naive.image, atol=1e-12, rtol=0)
        alone = torch.arange(16) == i
        one = attack(model, images, labels, radius=radius, view=view, seed=4, logits=logits, standing=alone)
        assert one.forward_passes == naive.queries - naive.known
        total += naive.queries - naive.known
    assert 2 <= result.kept.sum() <= 13
    assert result.forward_passes == total
    assert result.backward_passes == 0


def test_who_has_tried_every_direction_begins_again() -> None:
    model = linear(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), torch.tensor([-1.45, 0.0]))
    image, label = torch.full((1, 1, 2, 2), 0.9), torch.tensor([0])
    # Forwards is always wrong, so every 0.1 that the sum of 3.6 falls costs two queries; it breaks at 1.4.
    for queries, kept in ((43, True), (44, False)):
        result = SimBA(queries=queries, step=0.1)(model, image, label, radius=9.0)
        assert bool(result.kept) is kept, queries
        assert result.forward_passes == 1 + queries


def test_every_image_that_stands_is_asked_about_in_every_pass() -> None:
    images, labels = digits(40)
    images = images.clamp(0.01, 0.99)  # so that no step is clipped away
    correct = int((trained()(images).argmax(1) == labels).sum())
    result = SimBA(queries=30)(trained(), images, labels, radius=1e-3, batch_size=16)
    assert result.kept.sum() == correct
    assert result.forward_passes == 40 + 30 * correct


def test_a_step_that_the_box_takes_back_costs_a_query_and_no_pass() -> None:
    model = linear(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), torch.tensor([-1.45, 0.0]))
    image, label = torch.ones(1, 1, 2, 2), torch.tensor([0])
    # Forwards leaves the box in the first round. From 4 the sum falls by 0.1 every second query; it breaks at 1.4.
    for queries, kept in ((51, True), (52, False)):
        result = SimBA(queries=queries, step=0.1)(model, image, label, radius=9.0)
        assert bool(result.kept) is kept, queries
        assert result.forward_passes == 1 + queries - 4


def test_confident_logits_do_not_blind_it() -> None:
    images, labels = digits(96)
    kept = [
        int(SimBA(queries=100)(Scaled(trained(), scale), images, labels, radius=0.5).kept.sum()) for scale in (1, 1000)
    ]
    saturated = (1000 * trained()(images)).softmax(1).gather(1, labels.unsqueeze(1)) == 1
    assert saturated.sum() > 48  # so that comparing probabilities would see nothing
    assert 5 < kept[0] < 60
    assert abs(kept[0] - kept[1]) <= 5


def test_differences_within_rounding_are_none() -> None:
    class Noisy(nn.Module):
        """The same answer always, but for rounding."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = torch.tensor([7.0, 5.0, -3.0]).expand(len(images), 3)
            return logits * (1 + images.flatten(1).sum(1, keepdim=True).sin() * 2e-7)

    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))

    class Watched(SimBA):
        def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
            seen.append(super().accept(batch, query, logits))
            return seen[-1]

    attack = Watched(queries=20)
    seen: list[torch.Tensor] = []
    attack(Noisy(), images, torch.zeros(8, dtype=torch.int64), radius=1.0)
    assert len(seen) == 20
    assert not torch.stack(seen).any()


@pytest.mark.slow
@each_basis
@pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"])
@pytest.mark.parametrize("loss", ["sce", "i-sce"])
def test_trained_networks_fall_as_to_the_plain_version(data: str, loss: str, basis: Basis) -> None:
    trained, split = reference_model(data, loss)  # type: ignore[arg-type]
    # In double precision: in single, the rounding of a pass of many images decides about two of 200.
    model, images, labels = copy.deepcopy(trained).double(), split.images[:200].double(), split.labels[:200]
    result = SimBA(queries=300, basis=basis)(model, images, labels, radius=1.5, seed=1)
    agree = 0
    for i, order in enumerate(orders(len(images), (1, 28, 28), basis, seed=1)):
        clean, label = images[i : i + 1], int(labels[i])
        if model(clean).argmax() != label:
            agree += not result.kept[i]
            continue
        naive = naive_simba(model, clean, label, order, radius=1.5, queries=300, step=0.2, basis=basis)
        agree += bool(result.kept[i]) is not naive.broken and (
            not naive.broken or torch.allclose(result.adversarial[i], naive.image[0], atol=1e-4)
        )
    assert agree == len(images)
