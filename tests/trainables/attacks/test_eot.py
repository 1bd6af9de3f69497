from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.victims import RADIUS, digits, linear, trained
from trainables.attacks import Attack
from trainables.attacks.engine.victim import Victim
from trainables.attacks.pgd import PGD
from trainables.attacks.simba import SimBA
from trainables.attacks.square import Square
from trainables.attacks.torchattacks import Torchattacks
from trainables.registry import make

ATTACKS: dict[str, Attack] = {
    "pgd": PGD(steps=6, loss="dlr"),
    "square": Square(queries=40),
    "simba": SimBA(queries=30),
    "torchattacks": Torchattacks(attack="APGD", options={"steps": 4}),
}


class Rippled(nn.Module):
    """A model whose slope is drowned by that of a ripple of random direction and phase, new at each evaluation.

    The ripple is low and steep, so that it moves no decision by much; over the phase its mean is zero.
    """

    def __init__(self, model: nn.Module, slope: float, length: float = 1e-3) -> None:
        super().__init__()
        self.model = model
        self.slope = slope
        self.length = length

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        direction = torch.randn(images.shape)
        direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        phase = 2 * torch.pi * torch.rand(len(images))
        along = (direction * images).sum((1, 2, 3))
        ripple = self.slope * self.length * (along / self.length + phase).sin()
        return logits + torch.stack([ripple, -ripple], 1)


@pytest.mark.parametrize("name", ATTACKS)
def test_it_changes_nothing_for_a_model_that_draws_nothing(name: str) -> None:
    images, labels = digits(24)
    given = {"radius": RADIUS, "seed": 2, "batch_size": 10}
    plain = ATTACKS[name](trained(), images, labels, **given)  # type: ignore[arg-type]
    mean = replace(ATTACKS[name], eot=4)(trained(), images, labels, **given)  # type: ignore[arg-type]
    assert torch.equal(mean.kept, plain.kept)
    assert torch.equal(mean.adversarial, plain.adversarial)  # four equal numbers have exactly that mean
    assert 0 < plain.kept.sum() < 24
    assert mean.forward_passes == 4 * plain.forward_passes
    assert mean.backward_passes == 4 * plain.backward_passes


def test_passes_are_those_of_the_model() -> None:
    class Counted(nn.Module):
        forward_passes = 0
        backward_passes = 0

        def forward(self, images: Tensor) -> Tensor:
            Counted.forward_passes += len(images)
            logits: Tensor = trained()(images)
            if logits.requires_grad:
                logits.register_hook(self.count)  # type: ignore[no-untyped-call]
            return logits

        def count(self, gradient: Tensor) -> None:
            Counted.backward_passes += len(gradient)

    result = replace(PGD(steps=4), eot=3)(Counted(), *digits(24), radius=RADIUS, batch_size=10)
    assert result.forward_passes == Counted.forward_passes
    assert result.backward_passes == Counted.backward_passes > 0


def test_the_gradient_is_the_mean_gradient() -> None:
    model = Rippled(linear(torch.eye(2, 16), torch.zeros(2)), slope=3.0)
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        (ours,) = torch.autograd.grad(Victim(model, "raw", draws=5)(images)[:, 0].sum(), images)
        torch.manual_seed(1)
        each = [torch.autograd.grad(model(images)[:, 0].sum(), images)[0] for _ in range(5)]
    torch.testing.assert_close(ours, torch.stack(each).mean(0))


def random_victim() -> tuple[Rippled, nn.Module, Tensor, Tensor, float]:
    """A linear model under a ripple, the model itself, images about mid-grey, labels, a radius that all fall within."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 64, generator=generator)
    weights = weights / (weights[0] - weights[1]).norm()
    calm = linear(weights, -weights @ torch.full((64,), 0.5))
    images = 0.5 + 0.04 * torch.randn(200, 1, 8, 8, generator=generator)
    with torch.no_grad():
        gap = calm(images)[:, 0] - calm(images)[:, 1]
    far = gap.abs() > 0.02
    images, gap = images[far], gap[far]
    return Rippled(calm, slope=20.0, length=1e-4), calm, images, (gap < 0).long(), 1.5 * float(gap.abs().max())


def test_a_model_that_draws_at_random_needs_it() -> None:
    rippled, calm, images, labels, radius = random_victim()
    fallen = {}
    for name, attack in {"plain": PGD(steps=20), "mean": replace(PGD(steps=20), eot=64)}.items():
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            result = attack(rippled, images, labels, radius=radius)
        # By the model without its ripple, for the mean of infinitely many draws.
        fallen[name] = int((calm(result.adversarial).argmax(1) != labels).sum())
    assert fallen["mean"] > 0.9 * len(images)
    assert fallen["plain"] < 0.5 * len(images), fallen


def test_the_mean_judges_the_clean_images_too() -> None:
    class Coin(nn.Module):
        """Wrong by much every third time, and right on average."""

        calls = 0

        def forward(self, images: Tensor) -> Tensor:
            Coin.calls += 1
            wrong = Coin.calls % 3 == 0
            return torch.tensor([-1.0, 1.0] if wrong else [1.0, -1.0]).expand(len(images), 2)

    images, labels = torch.full((4, 1, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    misleading = torch.tensor([[-1.0, 1.0]]).expand(4, 2)  # what one evaluation may have said before
    result = replace(SimBA(queries=10), eot=3)(Coin(), images, labels, radius=0.1, logits=misleading)
    assert result.kept.all()
    assert result.forward_passes == 3 * (4 + 10 * 4)


def test_the_models_draws_are_seeded_and_the_processs_left_alone() -> None:
    rippled, _, images, labels, radius = random_victim()
    outcomes = []
    for state, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        outcomes.append(replace(PGD(steps=3), eot=2)(rippled, images, labels, radius=radius, seed=seed).adversarial)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


def test_the_model_itself_is_left_as_it_was_found() -> None:
    model = copy.deepcopy(trained()).train()
    model[1].eval()
    replace(PGD(steps=2), eot=2)(model, *digits(8), radius=RADIUS)
    assert [module.training for module in model] == [True, False, True, True, True, True, True]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_a_configuration_asks_for_it() -> None:
    mean = make("attack", "simba", {"eot": 5})
    assert mean == SimBA(eot=5)
    assert mean.label == "simba300-pixel-eot5"
    with pytest.raises(ValueError, match=r"^eot must be at least 1, got 0; "):
        PGD(eot=0)
