from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.victims import RADIUS, digits, linear, trained
from trainables.attacks import Attack
from trainables.attacks.engine.transfer import Transfer
from trainables.attacks.pgd import PGD
from trainables.attacks.simba import SimBA
from trainables.attacks.torchattacks import Torchattacks
from trainables.settings import View

ATTACKS: dict[str, Attack] = {
    "pgd": PGD(steps=8, loss="dlr"),
    "simba": SimBA(queries=30),
    "torchattacks": Torchattacks(attack="APGD", options={"steps": 4}),
}


class Label(nn.Module):
    """A victim that gives away nothing but its label: without gradients, all logits 0 but one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.passes = 0

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        self.passes += len(images)
        logits: Tensor = self.model(images)
        return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(images)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("view", ["normalized", "raw", "rescaled"])
def test_the_model_as_its_own_surrogate_falls_as_to_the_attack_itself(name: str, view: View) -> None:
    images, labels = digits(48)
    logits = trained()(images).detach()
    correct = logits.argmax(1) == labels
    images, labels = images[correct], labels[correct]  # so that `rescaled` means the same
    given = {"radius": RADIUS, "seed": 2, "view": view}
    own = ATTACKS[name](trained(), images, labels, **given)  # type: ignore[arg-type]
    transferred = Transfer(attack=ATTACKS[name], surrogate=trained())(trained(), images, labels, **given)  # type: ignore[arg-type]
    assert torch.equal(transferred.kept, own.kept)
    torch.testing.assert_close(transferred.adversarial, own.adversarial, atol=1e-5, rtol=0)
    assert 0 < own.kept.sum() < len(images)


@pytest.mark.parametrize("name", ATTACKS)
def test_labels_are_all_it_asks_of_the_victim(name: str) -> None:
    images, labels = digits(64)
    victim = Label(trained())
    result = Transfer(attack=ATTACKS[name], surrogate=trained("i-sce"))(victim, images, labels, radius=RADIUS)
    with torch.no_grad():
        correct = trained()(images).argmax(1) == labels
        survived = trained()(result.adversarial).argmax(1) == labels
    assert torch.equal(result.kept, correct & survived)
    assert 0 < result.kept.sum() < correct.sum()


def test_images_move_on_until_the_victim_falls() -> None:
    """The surrogate gives way at once, the victim only far beyond its boundary."""
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    surrogate, victim = (linear(weights, bias * torch.tensor([1.0, -1.0])) for bias in (-1.9, -1.2))
    image, label = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    for radius, kept in ((0.39, True), (0.41, False)):
        result = Transfer(attack=PGD(steps=10), surrogate=surrogate)(victim, image, label, radius=radius)
        assert bool(result.kept) is kept


def test_images_that_the_surrogate_gets_wrong_are_attacked_too() -> None:
    weights = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]])
    surrogate, victim = (linear(weights, bias * torch.tensor([1.0, -1.0])) for bias in (-2.5, -1.9))
    image, label = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    assert surrogate(image).argmax(1) != label
    assert not Transfer(attack=PGD(steps=10), surrogate=surrogate)(victim, image, label, radius=0.2).kept


def test_passes_of_both_models_count() -> None:
    images, labels = digits(24)
    surrogate, victim = Label(trained("i-sce")), Label(trained())
    result = Transfer(attack=SimBA(queries=5), surrogate=surrogate)(victim, images, labels, radius=RADIUS)
    assert result.forward_passes == surrogate.passes + victim.passes
    assert surrogate.passes > 0
    following = Transfer(attack=PGD(steps=3), surrogate=trained("i-sce"))(
        Label(trained()), images, labels, radius=RADIUS
    )
    assert following.backward_passes > 0


def test_the_surrogate_is_left_as_it_was_found() -> None:
    surrogate = copy.deepcopy(trained("i-sce")).train()
    surrogate[1].eval()
    surrogate[0].weight.requires_grad_(False)
    state = copy.deepcopy(surrogate.state_dict())
    Transfer(attack=PGD(steps=3), surrogate=surrogate)(trained(), *digits(24), radius=RADIUS)
    assert [module.training for module in surrogate] == [True, False, True, True, True, True, True]
    assert [parameter.requires_grad for parameter in surrogate.parameters()] == [False, *[True] * 5]
    assert all(parameter.grad is None for parameter in surrogate.parameters())
    assert all(torch.equal(value, state[key]) for key, value in surrogate.state_dict().items())


def test_what_the_other_attack_knows_is_known() -> None:
    attack = Transfer(attack=SimBA(queries=5), surrogate=trained())
    assert (attack.norms, attack.minimum_norm, attack.invariance) == (("l2",), False, "none")
    assert Transfer(attack=PGD(steps=5, loss="dlr"), surrogate=trained()).invariance == "per-image"


def test_the_victims_evaluations_can_be_averaged() -> None:
    result = replace(Transfer(attack=PGD(steps=3), surrogate=trained()), eot=2)(trained(), *digits(24), radius=RADIUS)
    assert 0 < result.kept.sum() < 24
