from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.attacks.engine.margins import dlr, likeliest, log_odds_against, targeted_dlr


def random_logits(classes: int = 6, count: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator, dtype=torch.double)
    return logits, torch.randint(classes, (count,), generator=generator)


def test_dlr_is_equation_6() -> None:
    logits, labels = random_logits()
    for z, y, value in zip(logits.tolist(), labels.tolist(), dlr(logits, labels).tolist(), strict=True):
        ordered = sorted(z, reverse=True)
        others = max(z[i] for i in range(len(z)) if i != y)
        assert value == pytest.approx(-(z[y] - others) / (ordered[0] - ordered[2]))


def test_targeted_dlr_is_equation_7() -> None:
    logits, labels = random_logits()
    targets = (labels + 2) % 6
    values = targeted_dlr(logits, labels, targets)
    for z, y, t, value in zip(logits.tolist(), labels.tolist(), targets.tolist(), values.tolist(), strict=True):
        ordered = sorted(z, reverse=True)
        assert value == pytest.approx(-(z[y] - z[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2))


@settings(deadline=None)
@given(scale=st.floats(1e-2, 1e4), seed=st.integers(0, 1000))
def test_dlr_does_not_see_the_scale(scale: float, seed: int) -> None:
    logits, labels = random_logits(seed=seed, count=8)
    targets = (labels + 1) % 6
    torch.testing.assert_close(dlr(scale * logits, labels), dlr(logits, labels))
    torch.testing.assert_close(targeted_dlr(scale * logits, labels, targets), targeted_dlr(logits, labels, targets))


def test_dlr_of_equal_logits_is_finite() -> None:
    logits = torch.zeros(2, 5, requires_grad=True)
    labels = torch.tensor([0, 1])
    for value in (dlr(logits, labels), targeted_dlr(logits, labels, labels + 1)):
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_log_odds_climb_in_the_direction_of_cross_entropy() -> None:
    logits, labels = random_logits()
    logits.requires_grad_()
    p = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    odds = log_odds_against(logits, labels)
    torch.testing.assert_close(odds, ((1 - p) / p).log())
    (ours,) = torch.autograd.grad(odds.sum(), logits)
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), logits)
    torch.testing.assert_close(F.normalize(ours), F.normalize(theirs))


def test_log_odds_do_not_underflow_where_cross_entropy_does() -> None:
    logits = torch.tensor([[300.0, 0.0, -5.0]], requires_grad=True)
    label = torch.tensor([0])
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits, label), logits)
    (ours,) = torch.autograd.grad(log_odds_against(logits, label).sum(), logits)
    assert not theirs.any()
    torch.testing.assert_close(ours, torch.tensor([[-1.0, 0.9933, 0.0067]]), atol=1e-4, rtol=0)


def test_the_likeliest_wrong_classes_come_in_order() -> None:
    logits, labels = random_logits()
    for z, y, found in zip(logits.tolist(), labels.tolist(), likeliest(logits, labels, 4).tolist(), strict=True):
        assert found == [i for i in sorted(range(6), key=lambda i: -z[i]) if i != y][:4]
