from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainables.training.adam import Adam


def problem() -> tuple[list[Tensor], list[list[Tensor]]]:
    """Two parameters and their gradients in six steps."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,)]
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    return parameters, [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(6)]


def make(parameters: list[Tensor]) -> Adam:
    return Adam([{"params": parameters}], 0.1)


def advance(parameters: list[Tensor], gradients: list[Tensor], optimizer: Adam, learning_rate: float) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.param_groups[0]["lr"] = learning_rate
    optimizer.step()


def test_it_is_algorithm_1() -> None:
    parameters, steps = problem()
    optimizer = make(parameters)
    theta = [parameter.detach().double() for parameter in parameters]
    m = [torch.zeros_like(value) for value in theta]
    v = [torch.zeros_like(value) for value in theta]
    for t, gradients in enumerate(steps, start=1):
        rate = 0.1 / t
        advance(parameters, gradients, optimizer, rate)
        for index, gradient in enumerate(gradients):
            g = gradient.double()
            m[index] = 0.9 * m[index] + 0.1 * g
            v[index] = 0.999 * v[index] + 0.001 * g**2
            theta[index] -= rate * (m[index] / (1 - 0.9**t)) / ((v[index] / (1 - 0.999**t)).sqrt() + 1e-8)
            torch.testing.assert_close(parameters[index].double(), theta[index], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_it_is_torchs_adam_bit_for_bit() -> None:
    """Slow for what the module avoids: making torch's optimiser imports torch.compile."""
    parameters, steps = problem()
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    optimizer, reference = make(parameters), torch.optim.Adam(copies, lr=0.1, fused=True)
    for gradients in steps:
        advance(parameters, gradients, optimizer, 0.1)
        for copy, gradient in zip(copies, gradients, strict=True):
            copy.grad = gradient
        reference.step()
        assert all(torch.equal(one, other) for one, other in zip(parameters, copies, strict=True))


def test_a_restored_state_goes_on_alike() -> None:
    parameters, steps = problem()
    whole = make(parameters)
    for gradients in steps[:3]:
        advance(parameters, gradients, whole, 0.1)
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    restored = make(copies)
    restored.load_state_dict(whole.state_dict())
    for gradients in steps[3:]:
        advance(parameters, gradients, whole, 0.1)
        advance(copies, gradients, restored, 0.1)
    assert all(torch.equal(one, other) for one, other in zip(parameters, copies, strict=True))


def test_forgotten_gradients_are_gone() -> None:
    parameters, (gradients, *_) = problem()
    optimizer = make(parameters)
    advance(parameters, gradients, optimizer, 0.1)
    optimizer.zero_grad()
    assert [parameter.grad for parameter in parameters] == [None, None]


@pytest.mark.parametrize("overflow", [False, True])
def test_the_loss_scale_cancels_and_an_overflow_moves_nothing(overflow: bool) -> None:
    """With torch's GradScaler, as fp16 training uses it."""
    parameters, steps = problem()
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    plain, scaled = make(parameters), make(copies)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scale = scaler.scale(torch.ones(()))
    for index, gradients in enumerate(steps):
        broken = overflow and index == 2
        if not broken:
            advance(parameters, gradients, plain, 0.1)
        for copy, gradient in zip(copies, gradients, strict=True):
            copy.grad = gradient * scale * (torch.inf if broken else 1)
        scaler.step(scaled)  # type: ignore[arg-type]
        scaler.update(1024.0)
    assert plain.steps == scaled.steps == (5 if overflow else 6)
    for one, other in zip(parameters, copies, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
