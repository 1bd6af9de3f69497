from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.splits import Split, load_splits
from trainables.defences.none import NoDefence
from trainables.defences.trades import TRADES
from trainables.models.resnet32 import ResNet32
from trainables.registry import make, names
from trainables.settings import Problem
from trainables.training.loop import train
from trainables.training.replicate import Replicate, make_replicates


def replicate(problem: Problem, splits: dict[str, Split], **changes: Any) -> Replicate:
    return make_replicates(dataclasses.replace(problem, **changes), splits, [0])[0]


def loss_of(made: Replicate, split: Split) -> Tensor:
    made.objective.train()
    return made.defence.training_loss(made.network, made.objective, split.images, split.labels, made.defence_generator)


def attacked(made: Replicate, images: Tensor) -> list[Tensor]:
    """Every batch that goes through the model in one training step, in order."""
    seen: list[Tensor] = []
    handle = made.model.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    loss_of(made, Split(images, torch.arange(len(images)) % 10))
    handle.remove()
    return seen


@pytest.mark.parametrize("loss", names("loss"))
def test_it_is_the_loss_and_the_divergence_that_its_attack_raises(problem: Problem, loss: str) -> None:
    splits = load_splits(problem.data)
    batch = splits["train"][:16]
    made = replicate(problem, splits, loss=make("loss", loss), defence=TRADES(beta=3.0, epsilon=0.2, steps=5))
    reference = replicate(problem, splits, loss=make("loss", loss))
    reference.objective.train()
    adversarial = attacked(made, batch.images)[-1]
    made = replicate(problem, splits, loss=make("loss", loss), defence=made.defence)
    natural = reference.objective(batch.images, batch.labels)
    log_p = reference.network(batch.images).log_softmax(1)
    log_q = reference.network(adversarial).log_softmax(1)
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    torch.testing.assert_close(loss_of(made, batch), natural + 3.0 * divergence, rtol=1e-4, atol=1e-5)
    assert divergence > 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_its_attack_stays_in_ball_and_box_and_raises_the_divergence(problem: Problem, norm: Any) -> None:
    splits = load_splits(problem.data)
    images, epsilon = splits["train"][:16].images, {"l2": 1.0, "linf": 0.1}[norm]
    made = replicate(problem, splits, defence=TRADES(epsilon=epsilon, steps=5, norm=norm))
    seen = attacked(made, images)
    clean, start, adversarial = seen[1], seen[2], seen[-1]
    assert torch.equal(clean, images)
    assert 0 < (start - images).abs().max() < 0.01
    for each in seen:
        assert each.min() >= 0
        assert each.max() <= 1
        change = (each - images).flatten(1)
        size = change.norm(dim=1) if norm == "l2" else change.abs().amax(1)
        assert (size <= epsilon * (1 + 1e-5)).all()
    log_p = made.model(images).log_softmax(1)
    raised = [
        F.kl_div(made.model(x).log_softmax(1), log_p, reduction="sum", log_target=True) for x in (start, adversarial)
    ]
    assert raised[1] > 2 * raised[0]


def test_the_attack_runs_in_evaluation_mode_and_leaves_the_modes(problem: Problem, noise: dict[str, Split]) -> None:
    made = replicate(problem, noise, model=ResNet32(), defence=TRADES(epsilon=0.1, steps=2, norm="linf"))
    frozen = next(module for module in made.model.modules() if isinstance(module, nn.BatchNorm2d))
    modes: list[bool] = []
    hook = made.model[1].register_forward_pre_hook(lambda *_: modes.append(made.model.training))  # type: ignore[index]
    made.objective.train()
    frozen.eval()
    made.defence.training_loss(
        made.network, made.objective, noise["train"].images, noise["train"].labels, made.defence_generator
    )
    hook.remove()
    # The loss on clean images; the attack's clean pass and two steps; both sides of the divergence.
    assert modes == [True, False, False, False, True, True]
    assert not frozen.training
    assert all(parameter.grad is None for parameter in made.objective.parameters())


def test_gradients_flow_through_both_sides_of_the_divergence(problem: Problem) -> None:
    splits = load_splits(problem.data)
    batch = splits["train"][:16]
    made = replicate(problem, splits, defence=TRADES(beta=1.0, epsilon=0.2, steps=2))
    adversarial = attacked(made, batch.images)[-1]
    made = replicate(problem, splits, defence=made.defence)
    loss_of(made, batch).backward()  # type: ignore[no-untyped-call]
    reference = replicate(problem, splits)
    clean, other = reference.model(batch.images), reference.model(adversarial)
    divergence = F.kl_div(other.log_softmax(1), clean.softmax(1), reduction="batchmean")
    (F.cross_entropy(clean, batch.labels) + divergence).backward()
    for one, two in zip(made.model.parameters(), reference.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("off", [{"beta": 0.0}, {"epsilon": 0.0}])
def test_switched_off_it_is_no_defence(problem: Problem, off: dict[str, float]) -> None:
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, epochs=1, replicates=1)
    results = []
    for defence in (NoDefence(), TRADES(**off), TRADES(steps=2)):  # type: ignore[arg-type]
        each = dataclasses.replace(problem, defence=defence, train=settings)
        (result,) = train(make_replicates(each, splits), splits, each)
        results.append(result.train_loss)
    assert results[0] == results[1] != results[2]


def test_an_epsilon_in_grey_levels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^epsilon must be at most 1 for linf .*write 8/255 as 0.0314"):
        TRADES(epsilon=8.0)
