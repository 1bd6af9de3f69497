from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ArcFaceLoss
from torch import Tensor, nn

from trainables.losses.arcface import ArcFace

WIDTH, CLASSES = 6, 5


def batch(seed: int, n: int = 11, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, WIDTH, generator=generator, dtype=dtype)
    return features, torch.randn(n, CLASSES, generator=generator, dtype=dtype), torch.arange(n) % CLASSES


def built(s: float = 64.0, m: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = ArcFace(s=s, m=m).build(WIDTH, CLASSES).double()
    return module


@given(seed=st.integers(0, 2**31), s=st.floats(1, 128), m=st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_it_agrees_with_pytorch_metric_learning(seed: int, s: float, m: float) -> None:
    """The other library takes the margin in degrees."""
    module = built(s, m)
    features, logits, labels = batch(seed)
    other = ArcFaceLoss(CLASSES, WIDTH, margin=math.degrees(m), scale=s).double()
    other.W.data = module.weight.detach().t().clone()
    assert module(features, logits, labels).item() == pytest.approx(other(features, labels).item(), rel=1e-9)
    torch.testing.assert_close(module.head(features), other.get_logits(features))


def test_it_is_equation_3_and_its_attacked_logits_have_no_margin() -> None:
    module = built(10.0, 0.5)
    features, logits, labels = batch(3)
    cosines = nn.functional.cosine_similarity(features.unsqueeze(1), module.weight.detach(), dim=2)
    terms = []
    for row, y in zip(cosines.tolist(), labels.tolist(), strict=True):
        angle = math.acos(row[y])
        true = math.cos(angle + 0.5) if angle + 0.5 <= math.pi else row[y] - 0.5 * math.sin(0.5)
        others = sum(math.exp(10 * value) for k, value in enumerate(row) if k != y)
        terms.append(-math.log(math.exp(10 * true) / (math.exp(10 * true) + others)))
    torch.testing.assert_close(module.head(features).detach(), 10 * cosines)
    assert module(features, logits, labels).item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_aligned_and_opposite_features_have_finite_gradients() -> None:
    module = ArcFace().build(WIDTH, CLASSES)
    for features in (module.weight.detach(), -module.weight.detach(), torch.zeros(CLASSES, WIDTH)):
        features = features.clone().requires_grad_()
        module(features, None, torch.arange(CLASSES)).backward()
        assert features.grad is not None
        assert features.grad.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_a_margin_raises_the_loss_and_without_one_it_is_cross_entropy_of_the_head() -> None:
    features, logits, labels = batch(5)
    module = built(m=0.0)
    torch.testing.assert_close(
        module(features, logits, labels), nn.functional.cross_entropy(module.head(features), labels)
    )
    assert built(m=0.5)(features, logits, labels) > module(features, logits, labels)
