from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.data.splits import Split, load_splits
from trainables.defences import Defence
from trainables.defences.adversarial_training import AdversarialTraining
from trainables.defences.none import NoDefence
from trainables.models.resnet32 import ResNet32
from trainables.registry import make, names
from trainables.settings import Problem
from trainables.training.loop import train, training_step
from trainables.training.replicate import Replicate, make_replicates

PLUGINS = "tests.trainables.plugins"
LOSSES = [*names("loss"), f"{PLUGINS}:Prototypes", f"{PLUGINS}:focal"]


def replicate(problem: Problem, splits: dict[str, Split], **changes: Any) -> Replicate:
    return make_replicates(dataclasses.replace(problem, **changes), splits, [0])[0]


def attacked(made: Replicate, split: Split) -> Tensor:
    made.objective.train()
    return made.defence.training_images(
        made.network, made.objective, split.images, split.labels, made.defence_generator
    )


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_images_lie_in_ball_and_box_and_raise_the_training_loss(problem: Problem, norm: Any, loss: str) -> None:
    splits = load_splits(problem.data)
    epsilon = {"l2": 1.0, "linf": 0.1}[norm]
    made = replicate(
        problem, splits, loss=make("loss", loss), defence=AdversarialTraining(epsilon=epsilon, steps=5, norm=norm)
    )
    split = splits["train"][:32]
    images = attacked(made, split)
    assert images.shape == split.images.shape
    assert not images.requires_grad
    assert images.min() >= 0
    assert images.max() <= 1
    change = (images - split.images).flatten(1)
    size = change.norm(dim=1) if norm == "l2" else change.abs().amax(1)
    assert (size <= epsilon * (1 + 1e-5)).all()
    assert size.min() > 0.2 * epsilon
    made.objective.eval()
    assert made.objective(images, split.labels) > made.objective(split.images, split.labels)


def state(made: Replicate) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.objective.state_dict().items()}


@pytest.mark.parametrize("loss", ["cross-entropy", f"{PLUGINS}:Prototypes"])
def test_the_attack_leaves_model_and_loss_as_they_were(problem: Problem, noise: dict[str, Split], loss: str) -> None:
    """Batch norm's statistics, the loss's own buffers, gradients, modes and flags; the batch is whole."""
    made = replicate(
        problem,
        noise,
        model=ResNet32(),
        loss=make("loss", loss),
        defence=AdversarialTraining(epsilon=0.5, steps=2, norm="l2"),
    )
    for parameter in made.objective.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = state(made)
    sizes: list[int] = []
    made.model.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    made.model[1].register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))  # type: ignore[index]
    attacked(made, noise["train"])
    assert all(torch.equal(value, before[name]) for name, value in state(made).items())
    assert set(sizes) == {len(noise["train"])}
    assert all(module.training for module in made.objective.modules())
    for parameter in made.objective.parameters():
        assert parameter.requires_grad
        assert parameter.grad is not None
        assert (parameter.grad == 1).all()


def test_the_random_start_comes_from_the_defences_generator(problem: Problem) -> None:
    splits = load_splits(problem.data)
    defence = AdversarialTraining(epsilon=0.1, steps=1)
    first, second = (replicate(problem, splits, defence=defence) for _ in range(2))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = attacked(first, splits["train"][:8])
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, attacked(second, splits["train"][:8]))
    assert not torch.equal(one, attacked(first, splits["train"][:8]))
    assert torch.equal(first.generator.get_state(), replicate(problem, splits).generator.get_state())


def test_a_radius_of_0_is_no_defence(problem: Problem) -> None:
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, epochs=1, replicates=1)
    results = []
    for defence in (NoDefence(), AdversarialTraining(epsilon=0.0), AdversarialTraining(epsilon=0.1, steps=2)):
        each = dataclasses.replace(problem, defence=defence, train=settings)
        (result,) = train(make_replicates(each, splits), splits, each)
        results.append(result.train_loss)
    assert results[0] == results[1] != results[2]


def test_the_radius_grows_during_the_warm_up() -> None:
    defence = AdversarialTraining(epsilon=2.0, norm="l2", warm_up=0.5)
    assert [defence.at(progress).epsilon for progress in (0.0, 0.125, 0.25, 0.5, 0.9)] == [0.0, 0.5, 1.0, 2.0, 2.0]
    assert AdversarialTraining(epsilon=0.3).at(0.0).epsilon == 0.3


def test_the_warm_up_begins_without_an_attack(problem: Problem) -> None:
    """A step at the very beginning is that of plain training; one at the end is that of full adversarial training."""
    splits = load_splits(problem.data)

    def losses(defence: Defence) -> list[float]:
        made = replicate(problem, splits, defence=defence)
        images, labels = splits["train"].images[:16], splits["train"].labels[:16]
        return [training_step(made, images, labels, problem.train, progress).item() for progress in (0.0, 0.9)]

    full = AdversarialTraining(epsilon=0.3, steps=2)
    plain, warm = losses(NoDefence()), losses(dataclasses.replace(full, warm_up=0.5))
    assert warm[0] == plain[0] < losses(full)[0]
    assert warm[1] > plain[1]


@pytest.mark.parametrize("changes", [{}, {"epsilon": 0.0}])
@pytest.mark.parametrize("name", names("defence"))
def test_the_passes_of_a_training_image_are_counted(problem: Problem, name: str, changes: dict[str, Any]) -> None:
    defence = make("defence", name)
    defence = make("defence", name, {**changes, "steps": 3} if "steps" in defence.parameters else {})
    made = replicate(problem, load_splits(problem.data), defence=defence)
    split, counted = load_splits(problem.data)["train"][:16], list[int]()

    def count(_: nn.Module, __: Any, logits: Tensor) -> None:
        counted.append(len(logits))
        if logits.requires_grad:
            logits.register_hook(lambda gradient: counted.append(len(gradient)))

    made.model.register_forward_hook(count)
    training_step(made, split.images, split.labels, problem.train, 0.0)
    assert sum(counted) == 16 * defence.passes


def test_adversarial_training_makes_digits_robust(problem: Problem) -> None:
    """Against the attack of its own training, on images that it has not seen."""
    splits = load_splits(dataclasses.replace(problem.data, train_size=1000))
    settings = dataclasses.replace(problem.train, epochs=8, batch_size=32, replicates=1)
    attack = AdversarialTraining(epsilon=1.5, steps=5, norm="l2")
    kept = []
    for defence in (NoDefence(), attack):
        each = dataclasses.replace(problem, defence=defence, train=settings)
        (made,) = make_replicates(each, splits)
        for _ in train([made], splits, each):
            pass
        made.defence = attack
        images = attacked(made, splits["validation"])
        kept.append((made.predictor(images).argmax(1) == splits["validation"].labels).float().mean().item())
    assert kept[1] > kept[0] + 0.15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 8.0}, "epsilon must be at most 1 for linf balls on pixels .*write 8/255 as 0.0314"),
        ({"epsilon": -1.0}, r"epsilon must be in \[0, 10\], got -1.0"),
        ({"steps": 0}, r"steps must be a whole number in \[1, 1000\], got 0"),
        ({"norm": "l1"}, "norm must be one of l2, linf, got l1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make("defence", "adversarial-training", settings)


def test_a_users_function_replaces_the_images_or_the_loss(problem: Problem) -> None:
    splits = load_splits(problem.data)
    batch = splits["train"][:16]

    def loss_of(defence: Any) -> Tensor:
        made = replicate(problem, splits, defence=defence)
        return training_step(made, batch.images, batch.labels, problem.train, 0.0)

    plain = loss_of(NoDefence())
    assert loss_of(make("defence", f"{PLUGINS}:noisy", {"sigma": 0.0})) == plain
    assert loss_of(make("defence", f"{PLUGINS}:noisy", {"sigma": 0.3})) != plain
    assert loss_of(make("defence", f"{PLUGINS}:penalised", {"weight": 0.0})) == plain
    assert loss_of(make("defence", f"{PLUGINS}:penalised", {"weight": 1.0})) > plain


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": make("loss", f"{PLUGINS}:unreduced")}, r"loss must return one number, got a tensor of shape \(16,\)"),
        (
            {"defence": make("defence", f"{PLUGINS}:cropped")},
            r"defence must return images of shape \(16, 1, 28, 28\) or one number, got .*cropped, which returned shape",
        ),
    ],
)
def test_results_of_a_wrong_shape_are_refused(problem: Problem, changes: dict[str, Any], message: str) -> None:
    splits = load_splits(problem.data)
    batch, made = splits["train"][:16], replicate(problem, splits, **changes)
    with pytest.raises(ValueError, match=message):
        training_step(made, batch.images, batch.labels, problem.train, 0.0)
