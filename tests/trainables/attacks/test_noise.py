from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.victims import digits, linear, trained
from trainables.attacks.noise import Noise, random_surface
from trainables.settings import Norm

each_norm = pytest.mark.parametrize("norm", get_args(Norm))


@each_norm
@settings(deadline=None)
@given(few=st.integers(1, 9), more=st.integers(1, 9), dimensions=st.integers(1, 40), seed=st.integers(0, 99))
def test_draws_are_the_same_however_many_are_drawn_at_a_time(
    norm: Norm, few: int, more: int, dimensions: int, seed: int
) -> None:
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    parts = [random_surface(count, dimensions, one, norm) for count in (few, more)]
    np.testing.assert_array_equal(np.concatenate(parts), random_surface(few + more, dimensions, other, norm))


@each_norm
def test_draws_lie_on_the_surface_without_a_preferred_direction(norm: Norm) -> None:
    points = random_surface(20_000, 6, np.random.default_rng(0), norm)
    size = np.linalg.norm(points, {"l2": 2, "linf": np.inf}[norm], axis=1)
    np.testing.assert_allclose(size, 1, rtol=1e-6)
    assert np.abs(points.mean(axis=0)).max() < 0.03
    np.testing.assert_allclose(np.cov(points.T), np.eye(6) / (6 if norm == "l2" else 1), atol=0.03)


class Watched(nn.Module):
    """A model that remembers what it was asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(images)
        logits: Tensor = self.model(images)
        return logits


@each_norm
def test_every_query_is_another_point_on_the_surface(norm: Norm) -> None:
    model = Watched(linear(torch.zeros(2, 16), torch.tensor([1.0, 0.0])))
    images = torch.full((3, 1, 4, 4), 0.5)
    result = Noise(queries=50)(model, images, torch.zeros(3, dtype=torch.int64), radius=0.3, norm=norm, batch_size=12)
    clean, *asked = model.passes
    assert torch.equal(clean, images)
    assert [len(part) for part in asked] == [12] * 12 + [6]  # four draws of each of three images, and two at last
    points = torch.cat(asked)
    assert len(torch.unique(points.flatten(1), dim=0)) == 150
    change = torch.linalg.vector_norm((points - 0.5).flatten(1), {"l2": 2, "linf": torch.inf}[norm], dim=1)
    torch.testing.assert_close(change, torch.full((150,), 0.3))
    assert result.kept.all()
    assert (result.forward_passes, result.backward_passes) == (3 + 150, 0)


@each_norm
def test_an_image_falls_exactly_if_one_of_its_draws_crosses_the_boundary(norm: Norm) -> None:
    weights = torch.randn(16, generator=torch.Generator().manual_seed(0))
    model = linear(torch.stack([weights, torch.zeros(16)]), torch.tensor([-float(weights.sum()) / 2, 0.0]))
    gaps = torch.linspace(0.01, 0.1 if norm == "l2" else 0.33, 200) * weights.norm()
    images = (0.5 + gaps.unsqueeze(1) * weights / weights.square().sum()).view(-1, 1, 4, 4)
    labels = torch.zeros(200, dtype=torch.int64)
    result = Noise(queries=40)(model, images, labels, radius=0.1, norm=norm, seed=7, batch_size=33)
    draws = [torch.from_numpy(random_surface(40, 16, np.random.default_rng([7, i]), norm)) for i in range(200)]
    lowest = torch.stack([(0.1 * points @ weights).min() for points in draws])
    assert (lowest + gaps).abs().min() > 1e-6  # no draw so near to the boundary that rounding decides
    assert torch.equal(result.kept, lowest + gaps > 0)
    assert 20 < result.kept.sum() < 180


def test_more_draws_never_mend_an_image() -> None:
    images, labels = digits(96)
    few, many = (Noise(queries=queries)(trained(), images, labels, radius=1.2) for queries in (3, 300))
    assert (many.kept <= few.kept).all()
    assert many.kept.sum() < few.kept.sum()
