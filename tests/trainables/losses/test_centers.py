"""Center, L-GM and MMC losses, against the formulas written out in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.losses._centers import simplex
from trainables.losses.center import CenterLoss
from trainables.losses.l_gm import LGM
from trainables.losses.mmc import MMC
from trainables.registry import make

N, WIDTH, CLASSES = 9, 6, 5
Array = NDArray[np.float64]


def batch(spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    features = spread * torch.randn(N, WIDTH, generator=generator, dtype=torch.float64)
    return features, torch.randn(N, CLASSES, generator=generator, dtype=torch.float64), torch.arange(N) % 3


def built(loss: Any) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = loss.build(WIDTH, CLASSES).double()
    return module


def negative_log_likelihood(logits: Array, labels: Tensor) -> Array:
    return np.array([math.log(sum(math.exp(z - row[y]) for z in row)) for row, y in zip(logits, labels, strict=True)])


def test_center_is_cross_entropy_and_half_the_squared_distance() -> None:
    module = built(CenterLoss(weight=0.3)).eval()
    features, logits, labels = batch()
    centers = module.centers.numpy()
    distances = [((h - centers[y]) ** 2).sum() for h, y in zip(features.numpy(), labels, strict=True)]
    expected = negative_log_likelihood(logits.numpy(), labels).mean() + 0.3 / 2 * np.mean(distances)
    assert module(features, logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_centers_move_as_in_the_papers_algorithm_in_training_mode_alone() -> None:
    module = built(CenterLoss(weight=0.01, rate=0.4))
    features, logits, labels = batch()
    before = module.centers.clone()
    value = module(features, logits, labels)
    expected = before.numpy().copy()
    for j in range(CLASSES):
        members = features.numpy()[labels.numpy() == j]
        change = (expected[j] - members).sum(0) / (1 + len(members))  # Eq. 4; 0 for a class without images
        expected[j] -= 0.4 * change
    np.testing.assert_allclose(module.centers.numpy(), expected, rtol=1e-12)
    assert torch.equal(module.centers[3:], before[3:])
    moved = module.centers.clone()
    module.eval()
    assert module(features, logits, labels) < value
    assert torch.equal(module.centers, moved)


def test_the_weight_does_not_change_how_centers_move() -> None:
    light, heavy = built(CenterLoss(weight=0.001)), built(CenterLoss(weight=1.0))
    for module in (light, heavy):
        module(*batch())
    assert torch.equal(light.centers, heavy.centers)


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5])
def test_the_centers_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ValueError, match=r"^rate must be in \(0, 1\], got"):
        CenterLoss(rate=rate)


def test_l_gm_follows_the_papers_equations() -> None:
    module = built(LGM(alpha=0.3, weight=0.2))
    features, logits, labels = batch()
    means = module.means.detach().numpy()
    half = np.array([[((h - mean) ** 2).sum() / 2 for mean in means] for h in features.numpy()])
    np.testing.assert_allclose(module.head(features).detach().numpy(), -half, rtol=1e-12)
    terms = []
    for row, y in zip(half, labels.tolist(), strict=True):
        true = math.exp(-row[y] * (1 + 0.3))
        others = sum(math.exp(-d) for k, d in enumerate(row) if k != y)
        terms.append(-math.log(true / (true + others)) + 0.2 * row[y])
    assert module(features, logits, labels).item() == pytest.approx(np.mean(terms), rel=1e-12)


def test_l_gm_switched_off_is_cross_entropy_of_its_head() -> None:
    module = built(make("loss", "l-gm", LGM.baselines[1].parameters))
    features, logits, labels = batch()
    expected = nn.functional.cross_entropy(module.head(features), labels)
    torch.testing.assert_close(module(features, logits, labels), expected)


@pytest.mark.parametrize("width", [CLASSES - 1, 64])
def test_mmc_is_the_squared_distance_after_its_layer(width: int) -> None:
    module = built(MMC(norm=7.0, width=width))
    features, logits, labels = batch()
    weight, bias = (parameter.detach().numpy() for parameter in module.linear.parameters())
    embedded = features.numpy() @ weight.T + bias
    centers = module.centers.numpy()
    squared = np.array([[((h - center) ** 2).sum() for center in centers] for h in embedded])
    np.testing.assert_allclose(module.head(features).detach().numpy(), -squared, rtol=1e-9)
    expected = np.mean([row[y] for row, y in zip(squared, labels, strict=True)])
    assert module(features, logits, labels).item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 7.0, rtol=1e-6)


def test_mmcs_baseline_is_cross_entropy_on_the_same_centers() -> None:
    plain, softmax = built(MMC()), built(make("loss", "mmc", MMC.baselines[1].parameters))
    assert torch.equal(plain.centers, softmax.centers)
    features, logits, labels = batch(spread=0.1)
    expected = negative_log_likelihood(softmax.head(features).detach().numpy(), labels).mean()
    assert softmax(features, logits, labels).item() == pytest.approx(expected, rel=1e-9)


@given(points=st.integers(2, 40), room=st.integers(0, 5))
@settings(deadline=None)
def test_the_points_of_a_simplex_are_as_far_apart_as_possible(points: int, room: int) -> None:
    vectors = simplex(points, points - 1 + room)
    expected = np.full((points, points), -1 / (points - 1))
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-9)


def test_too_many_classes_for_mmc_are_refused() -> None:
    loss = MMC(width=8)
    loss.check(9)
    loss.build(WIDTH, 9)
    for refuse in (loss.check, lambda classes: loss.build(WIDTH, classes)):
        with pytest.raises(ValueError, match=r"^loss.width must be at least 9 for 10 classes, got 8; raise it$"):
            refuse(10)
    with pytest.raises(ValueError, match=r"^width must be at least 1, got 0"):
        MMC(width=0)
