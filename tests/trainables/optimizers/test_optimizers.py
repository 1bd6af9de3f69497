"""Every optimizer against its closed form, in float64 on the CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from trainables.optimizers import Optimizer
from trainables.registry import make, names

RATES = [0.1, 0.05, 0.02]


def steps(name: str, settings: dict[str, Any]) -> tuple[Tensor, list[Tensor], Tensor]:
    """A parameter, its gradients, and where the optimizer takes it."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=generator)
    gradients = [torch.randn(5, generator=generator) for _ in RATES]
    optimizer: Optimizer = make("optimizer", name, settings)
    parameter = start.clone().requires_grad_()
    built = optimizer.build([{"params": [parameter]}], RATES[0])
    for rate, gradient in zip(RATES, gradients, strict=True):
        for group in built.param_groups:
            group["lr"] = rate
        parameter.grad = gradient.clone()
        built.step()
    return start.double(), [gradient.double() for gradient in gradients], parameter.detach().double()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(decay: float, nesterov: bool) -> None:
    theta, gradients, end = steps("sgd", {"momentum": 0.9, "nesterov": nesterov, "weight_decay": decay})
    velocity = torch.zeros_like(theta)
    for rate, gradient in zip(RATES, gradients, strict=True):
        gradient = gradient + decay * theta
        velocity = 0.9 * velocity + gradient
        theta = theta - rate * (gradient + 0.9 * velocity if nesterov else velocity)
    torch.testing.assert_close(end, theta, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "settings"), [("adam", {}), ("adamw", {"weight_decay": 0.1}), ("adamw", {})])
def test_adam_and_adamw(name: str, settings: dict[str, Any]) -> None:
    theta, gradients, end = steps(name, settings)
    decay = settings.get("weight_decay", 0.01) if name == "adamw" else 0.0
    mean, square = torch.zeros_like(theta), torch.zeros_like(theta)
    for t, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), 1):
        theta = theta * (1 - rate * decay)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        theta = theta - rate * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(end, theta, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", names("optimizer"))
@pytest.mark.parametrize("overflow", [False, True])
def test_the_loss_scale_cancels_and_an_overflow_moves_nothing(name: str, overflow: bool) -> None:
    """With torch's GradScaler, as fp16 training uses it."""
    optimizer: Optimizer = make("optimizer", name)
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(5, generator=generator).requires_grad_()
    scaled = plain.detach().clone().requires_grad_()
    plainly, scaling = (optimizer.build([{"params": [parameter]}], 0.1) for parameter in (plain, scaled))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scale = scaler.scale(torch.ones(()))
    for step in range(4):
        gradient = torch.randn(5, generator=generator)
        broken = overflow and step == 2
        if not broken:
            plain.grad = gradient.clone()
            plainly.step()
        scaled.grad = gradient * scale * (torch.inf if broken else 1)
        scaler.step(scaling)
        scaler.update(1024.0)
    torch.testing.assert_close(scaled, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_restored_state_goes_on_alike(name: str) -> None:
    optimizer: Optimizer = make("optimizer", name)
    generator = torch.Generator().manual_seed(0)
    parameter = torch.randn(5, generator=generator).requires_grad_()
    whole = optimizer.build([{"params": [parameter]}], 0.1)
    gradients = [torch.randn(5, generator=generator) for _ in range(4)]
    for gradient in gradients[:2]:
        parameter.grad = gradient
        whole.step()
    twin = parameter.detach().clone().requires_grad_()
    restored = optimizer.build([{"params": [twin]}], 0.1)
    restored.load_state_dict(copy.deepcopy(whole.state_dict()))  # torch's share their tensors otherwise
    for gradient in gradients[2:]:
        for each, built in ((parameter, whole), (twin, restored)):
            each.grad = gradient
            built.step()
    assert torch.equal(parameter, twin)


@pytest.mark.parametrize("name", names("optimizer"))
def test_a_parameter_without_a_gradient_stays(name: str) -> None:
    """A loss with a head of its own leaves the model's classifier without one."""
    moved, still = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer: Optimizer = make("optimizer", name)
    built = optimizer.build([{"params": [moved, still]}], 0.1)
    moved.grad = torch.ones(2)
    built.step()
    assert (moved < 1).all()
    assert (still == 1).all()
