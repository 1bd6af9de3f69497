"""Gradients pass through rounding, and values stay exactly what they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainables.attacks.engine.bpda import StraightThrough

STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "function": torch.round,
    "method": Tensor.round,
    "decimals": lambda x: torch.round(x, decimals=1),
    "floor": torch.floor,
    "ceil": lambda x: x.ceil(),
    "trunc": torch.trunc,
    "fix": torch.fix,
    "sign": torch.sign,
    "in place": lambda x: (x * 1).round_(),
    "in place, twice": lambda x: (x * 1).mul_(8).floor_().div_(8),
}


class Stepped(nn.Module):
    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def forward(self, images: Tensor) -> Tensor:
        return 3 * self.step(images)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_its_own_value_and_the_identitys_gradient(name: str) -> None:
    model = Stepped(STEPS[name])
    images = torch.tensor([1e9, 1000.4, 1.6, 0.04, 1e-9, -0.6, -7.5]).requires_grad_()
    values = StraightThrough(model)(images)
    assert torch.equal(values, model(images.detach()))
    (gradient,) = torch.autograd.grad(values.sum(), images)
    assert torch.equal(gradient, torch.full_like(images, 3.0))


def test_everything_else_keeps_its_own_gradient() -> None:
    images = torch.linspace(-1, 1, 9).requires_grad_()
    (gradient,) = torch.autograd.grad(StraightThrough(Stepped(torch.sin))(images).sum(), images)
    torch.testing.assert_close(gradient, 3 * images.detach().cos())
