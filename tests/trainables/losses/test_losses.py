from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainables.logits import normalize_logits
from trainables.losses.cross_entropy import CrossEntropy, cross_entropy
from trainables.losses.i_sce import ISCE, i_sce

scales = st.floats(1, 2)
margins = st.floats(0, 0.1)
seeds = st.integers(0, 2**32 - 1)


def sample(seed: int, n: int = 7, k: int = 10, spread: float = 5.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = spread * torch.randn(n, k, generator=generator, dtype=torch.float64)
    return z, torch.randint(k, (n,), generator=generator)


@given(seed=seeds, s=scales, m=margins)
def test_i_sce_is_equation_4_term_by_term(seed: int, s: float, m: float) -> None:
    z, y = sample(seed)
    terms = []
    for logits, label in zip(z.tolist(), y.tolist(), strict=True):
        norm = math.sqrt(sum(value * value for value in logits) + 1e-12)
        f = [value / norm for value in logits]
        true = math.exp(s * f[label] + m)
        others = sum(math.exp(value) for index, value in enumerate(f) if index != label)
        terms.append(-math.log(true / (true + others)))
    assert i_sce(z, y, s, m).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@given(seed=seeds, s=scales, m=margins)
def test_gradients_are_the_closed_forms(seed: int, s: float, m: float) -> None:
    z, y = sample(seed, n=1)
    z.requires_grad_()
    scale = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    margin = torch.tensor(m, dtype=torch.float64, requires_grad=True)
    by_z, by_s, by_m = torch.autograd.grad(i_sce(z, y, scale, margin), (z, scale, margin))

    f = (z / z.norm()).detach()[0]
    onehot = F.one_hot(y[0], 10).double()
    p = (f + onehot * ((s - 1) * f + m)).softmax(0)
    by_f = (1 + (s - 1) * onehot) * (p - onehot)
    # The normalisation lets through what is orthogonal to f.
    expected = (by_f - f * (f @ by_f)) / z.norm().detach()
    torch.testing.assert_close(by_z[0], expected, rtol=1e-9, atol=1e-12)
    assert by_m.item() == pytest.approx(-(1 - p[y[0]].item()))
    assert by_m.item() < 0
    assert by_s.item() == pytest.approx(-(1 - p[y[0]].item()) * f[y[0]].item())


def test_the_gradient_by_s_changes_sign_with_the_true_logit() -> None:
    y = torch.tensor([0])
    for true, sign in ((3.0, -1), (-3.0, 1)):
        scale = torch.tensor(1.5, requires_grad=True)
        i_sce(torch.tensor([[true, 1.0, 0.5]]), y, scale, 0.05).backward()
        assert scale.grad is not None
        assert math.copysign(1, scale.grad.item()) == sign


@given(seed=seeds, s=scales, m=margins, norm=st.floats(1e-3, 1e4), factor=st.floats(1, 1e3))
def test_a_positive_scale_of_the_logits_changes_nothing(
    seed: int, s: float, m: float, norm: float, factor: float
) -> None:
    z, y = sample(seed)
    z = (z / z.norm(dim=-1, keepdim=True) * norm).float()
    assert i_sce(z * factor, y, s, m).item() == pytest.approx(i_sce(z, y, s, m).item(), abs=2e-6)
    assert (normalize_logits(z).norm(dim=-1) - 1).abs().max() <= 1e-6


@given(seed=seeds, s=scales, m=margins, k=st.integers(2, 20))
def test_the_lower_bound_holds_and_is_attained(seed: int, s: float, m: float, k: int) -> None:
    bound = math.log(1 + (k - 1) * math.exp(-m - math.sqrt(s**2 + 1 / (k - 1))))
    z, y = sample(seed, k=k)
    assert i_sce(z, y, s, m).item() >= bound - 1e-12
    best = torch.full((1, k), -1 / (k - 1), dtype=torch.float64)
    best[0, 0] = s
    assert i_sce(best, torch.tensor([0]), s, m).item() == pytest.approx(bound, rel=1e-9)


def test_gradcheck_through_the_normalization() -> None:
    z, y = sample(0, n=3)
    s = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    m = torch.tensor(0.06, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, s, m: i_sce(z, y, s, m), (z.requires_grad_(), s, m))
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, y), (z,))


def test_zero_logits_have_a_finite_loss_and_gradient() -> None:
    z = torch.zeros(2, 10, requires_grad=True)
    loss = i_sce(z, torch.tensor([0, 1]), 2.0, 0.1)
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_without_scale_and_margin_it_is_cross_entropy_of_unit_logits() -> None:
    z, y = sample(1)
    torch.testing.assert_close(i_sce(z, y, 1.0, 0.0), F.cross_entropy(F.normalize(z), y))
    torch.testing.assert_close(cross_entropy(z, y), F.cross_entropy(z, y))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_a_single_precision_loss(dtype: torch.dtype) -> None:
    z, y = sample(2)
    half = z.to(dtype)
    for loss in (cross_entropy, partial(i_sce, s=1.5, m=0.01)):
        assert loss(half, y).dtype == torch.float32
        assert loss(half, y).item() == loss(half.float(), y).item()


def test_the_modules_are_the_functions() -> None:
    z, y = sample(4)
    assert CrossEntropy().build(None, 10)(None, z, y) == cross_entropy(z, y)
    assert ISCE(s=1.3, m=0.02).build(None, 10)(None, z, y) == i_sce(z, y, 1.3, 0.02)


def test_the_reference_is_the_authors_own_and_the_baselines_switch_scale_and_margin_off() -> None:
    assert ISCE().reference == {"s": 1.0, "m": 0.1}
    assert [(baseline.loss, baseline.parameters) for baseline in ISCE.baselines] == [
        ("cross-entropy", {}),
        ("i-sce", {"s": 1.0, "m": 0.0}),
    ]


def test_i_sce_cites_the_paper() -> None:
    for part in ("Song, Wang, He and Zhou 2022", "Inference-Softmax Cross Entropy", "Mathematics 10, 3716"):
        assert part in ISCE.source
