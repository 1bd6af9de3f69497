"""The contract of every attack, whoever wrote it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.attacks.cascade import Cascade
from tests.trainables.victims import RADIUS, digits, trained
from trainables.attacks import Attack, AttackResult, Batch, StepAttack
from trainables.attacks.apgd import APGD
from trainables.attacks.autoattack import Part
from trainables.attacks.ddn import DDN
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.engine.transfer import Transfer
from trainables.attacks.fab import FAB
from trainables.attacks.fmn import FMN
from trainables.attacks.noise import Noise
from trainables.attacks.pgd import PGD
from trainables.attacks.simba import SimBA
from trainables.attacks.square import Square
from trainables.attacks.torchattacks import Torchattacks
from trainables.settings import Norm


class Momentum(StepAttack):
    """An attack without randomness that keeps a memory for each image."""

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(
            nn.functional.cross_entropy(logits, batch.labels, reduction="sum"), batch.images
        )
        gradient = gradient / gradient.abs().sum((1, 2, 3), keepdim=True)
        momentum = gradient + batch.memory.get("momentum", torch.zeros_like(gradient))
        batch.memory["momentum"] = momentum
        return batch.images + 0.3 * batch.radius * momentum / momentum.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


class Explosive(StepAttack):
    """An attack with NaN, infinite and huge steps."""

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        del logits
        steps = torch.tensor([torch.nan, torch.inf, 1e30, -1e30]).repeat(len(batch) // 4 + 1)[: len(batch)]
        return batch.images + steps.view(-1, 1, 1, 1) * torch.ones_like(batch.images)


class Grey(nn.Module):
    """Gives a model of one channel the mean of all channels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.mean(1, keepdim=True))
        return logits


# Balls that break some of the victim's images and leave some standing.
RADII: dict[Norm, float] = {"l2": RADIUS, "linf": RADIUS / 6}

OURS: dict[str, Callable[[], Attack]] = {
    "pgd-ce": lambda: PGD(steps=8),
    "pgd-dlr": lambda: PGD(steps=8, loss="dlr"),
    "pgd-ce-least-likely": lambda: PGD(steps=8, target="least-likely"),
    "pgd-dlr-least-likely": lambda: PGD(steps=8, loss="dlr", target="least-likely"),
    "pgd-restarts": lambda: PGD(steps=3, restarts=3),
    "deepfool": lambda: DeepFool(steps=8),
    "deepfool-2": lambda: DeepFool(steps=8, candidates=2),
    "ddn": lambda: DDN(steps=8),
    "fmn": lambda: FMN(steps=8),
    "fab": lambda: FAB(steps=6),
    "fab-likeliest": lambda: FAB(target="likeliest", steps=4, targets=3),
    "fab-restarts": lambda: FAB(steps=3, restarts=3),
    "apgd-ce": lambda: APGD(steps=8),
    "apgd-dlr": lambda: APGD(loss="dlr", steps=8),
    "apgd-pm": lambda: APGD(loss="pm", steps=8),
    "apgd-ce-likeliest": lambda: APGD(loss="ce", target="likeliest", steps=4, targets=2),
    "apgd-dlr-likeliest": lambda: APGD(loss="dlr", target="likeliest", steps=4, restarts=2),
    "square": lambda: Square(queries=60),
    "simba-pixel": lambda: SimBA(queries=60, step=0.1),
    "simba-dct": lambda: SimBA(queries=40, basis="dct"),
    "noise": lambda: Noise(queries=50),
    "eot": lambda: PGD(steps=4, eot=2),
    "transfer": lambda: Transfer(attack=PGD(steps=8), surrogate=Grey(trained())),
    "autoattack": lambda: Cascade(
        given=(Part("first", APGD(steps=3), 1), Part("second", APGD(loss="dlr", target="likeliest", steps=3), 4))
    ),
    "momentum": lambda: Momentum(steps=6),
    "explosive": lambda: Explosive(steps=3),
}
THEIRS: dict[str, Callable[[], Attack]] = {
    name: lambda name=name, options=options: Torchattacks(attack=name, options=options)  # type: ignore[misc]
    for name, options in {
        "APGD": {"steps": 8},
        "APGDT": {"steps": 3},
        "DeepFool": {"steps": 4},
        "PGDL2": {"steps": 5},
        "CW": {"steps": 5},
        "FGSM": {},
        "GN": {},
    }.items()
}
ATTACKS = OURS | THEIRS

each_attack = pytest.mark.parametrize("name", ATTACKS)
each_of_ours = pytest.mark.parametrize("name", OURS)


def attack(
    name: str,
    images: Tensor,
    labels: Tensor,
    model: nn.Module | None = None,
    seed: int = 3,
    batch_size: int = 16,
    norm: Norm = "l2",
) -> AttackResult:
    model = trained("i-sce", images.shape[1]) if model is None else model
    return ATTACKS[name]()(
        model,
        images,
        labels,
        radius=RADII[norm],
        norm=norm,
        view="normalized",
        seed=seed,
        batch_size=batch_size,
    )


@each_attack
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_broken_image_is_a_legal_misclassified_one(name: str, channels: int, norm: Norm) -> None:
    images, labels = digits(24, channels)
    model = trained("i-sce", channels)
    if norm not in ATTACKS[name]().norms:
        with pytest.raises(ValueError, match=rf"^norm must be \w+ for \w+, got {norm}; "):
            attack(name, images, labels, norm=norm)
        return
    result = attack(name, images, labels, norm=norm)
    change = np.linalg.norm((result.adversarial - images).flatten(1).double(), {"l2": 2, "linf": np.inf}[norm], axis=1)
    assert (change <= RADII[norm] * (1 + 2e-4)).all()
    broken = ~result.kept & (result.distance > 0)
    np.testing.assert_allclose(result.distance[broken], change[broken], rtol=1e-5)
    assert (result.distance[result.kept] > RADII[norm]).all()
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    with torch.no_grad():
        correct = model(images).argmax(1) == labels
        survived = model(result.adversarial).argmax(1) == labels
    assert torch.equal(result.kept, correct & survived)
    assert torch.equal(result.adversarial[result.kept], images[result.kept])


def test_the_victim_is_worth_attacking() -> None:
    images, labels = digits(96)
    kept = {name: int(attack(name, images, labels).kept.sum()) for name in ("pgd-ce", "pgd-dlr", "momentum")}
    assert all(5 < value < 80 for value in kept.values()), kept


@each_attack
def test_the_model_is_left_as_it_was_found(name: str) -> None:
    model = copy.deepcopy(trained("i-sce"))
    model.train()
    model[1].eval()  # a frozen batch norm in a model that trains
    model[0].weight.requires_grad_(False)
    model[6].bias.grad = torch.full_like(model[6].bias, 7.0)
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    images, labels = digits(12)
    copies = images.clone(), labels.clone()

    attack(name, images, labels, model)

    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(model[6].bias.grad, torch.full_like(model[6].bias, 7.0))
    assert all(parameter.grad is None for parameter in model.parameters() if parameter is not model[6].bias)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert not images.requires_grad


@each_attack
def test_global_randomness_is_untouched_and_unread(name: str) -> None:
    images, labels = digits(12)
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        outcomes.append(attack(name, images, labels))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[1], strict=True))
        assert random.getstate() == before[2]
    assert torch.equal(outcomes[0].adversarial, outcomes[1].adversarial)
    assert torch.equal(outcomes[0].kept, outcomes[1].kept)


@each_attack
def test_the_callers_contexts_do_not_matter(name: str) -> None:
    images, labels = digits(12)
    plain = attack(name, images, labels)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = attack(name, images, labels)
        assert not torch.is_grad_enabled()
    assert torch.equal(plain.adversarial, inside.adversarial)


@each_attack
def test_images_that_the_model_gets_wrong_are_not_attacked(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    images, labels = digits(12)
    with torch.no_grad():
        wrong = (trained("i-sce")(images).argmax(1) + 1) % 5
    result = attack(name, images, wrong)
    assert not result.kept.any()
    assert torch.equal(result.adversarial, images)
    evaluations = ATTACKS[name]().eot
    assert (result.forward_passes, result.backward_passes) == (evaluations * len(images), 0)
    attack(name, images, labels)
    assert capsys.readouterr() == ("", "")


@each_of_ours
def test_an_outcome_depends_on_nothing_but_the_image(name: str) -> None:
    images, labels = digits(40)
    whole = attack(name, images, labels, batch_size=64)
    for other in (attack(name, images, labels, batch_size=7), attack(name, images[:23], labels[:23], batch_size=64)):
        assert torch.equal(other.kept, whole.kept[: len(other.kept)])
        torch.testing.assert_close(other.adversarial, whole.adversarial[: len(other.kept)], atol=1e-4, rtol=0)


def test_order_does_not_matter_where_nothing_is_drawn() -> None:
    images, labels = digits(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    straight, shuffled = attack("momentum", images, labels), attack("momentum", images[order], labels[order])
    assert torch.equal(shuffled.kept, straight.kept[order])


@pytest.mark.parametrize(
    "name", ["pgd-ce", "pgd-dlr", "square", "simba-pixel", "noise", "eot", "transfer", "PGDL2", "APGD"]
)
def test_another_seed_draws_something_else(name: str) -> None:
    images, labels = digits(64)
    first, second = (attack(name, images, labels, seed=seed) for seed in (1, 2))
    both = ~first.kept & ~second.kept & (first.adversarial != images).flatten(1).any(1)
    assert both.any()
    assert (first.adversarial[both] != second.adversarial[both]).flatten(1).any(1).all()
