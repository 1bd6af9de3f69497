from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.splits import Split, load_splits
from trainables.losses import cross_entropy, i_sce
from trainables.settings import DataSettings, Problem, TrainSettings
from trainables.training.adam import Adam
from trainables.training.loop import (
    EpochResult,
    NonFiniteLoss,
    Replicate,
    evaluate_split,
    learning_rate,
    make_replicates,
    replicate_seeds,
    train,
)


def run(problem: Problem, splits: dict[str, Split], **changes: Any) -> tuple[list[EpochResult], list[Replicate]]:
    problem = dataclasses.replace(problem, train=dataclasses.replace(problem.train, **changes))
    replicates = make_replicates(problem, splits)
    return list(train(replicates, cross_entropy, splits, problem.train)), replicates


def numbers(results: list[EpochResult]) -> list[EpochResult]:
    return [dataclasses.replace(result, seconds=0.0) for result in results]


def test_replicates_share_their_seeds_whatever_their_number() -> None:
    many = replicate_seeds(TrainSettings(seed=4, replicates=5))
    assert replicate_seeds(TrainSettings(seed=4, replicates=2)) == many[:2]
    assert len({*many, *replicate_seeds(TrainSettings(seed=5, replicates=5))}) == 10
    assert all(0 <= seed < 2**32 for seed in many)
    assert replicate_seeds(TrainSettings(seed=4, replicates=2), [2, 4]) == (many[2], many[4])


def test_lenet5_learns_digits(problem: Problem) -> None:
    splits = load_splits(DataSettings(train_size=1000, validation_size=200))
    results, _ = run(problem, splits, epochs=4, batch_size=32, learning_rate=4e-3, replicates=1)
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert results[-1].train_loss[0] < results[0].train_loss[0] / 3
    assert results[-1].validation_accuracy[0] > 0.85


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_state_alone(problem: Problem) -> None:
    splits = load_splits(problem.data)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, replicates = run(problem, splits)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    second, again = run(problem, splits)
    assert numbers(first) == numbers(second)
    for one, other in zip(replicates, again, strict=True):
        for name, value in one.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name])
    assert first[0].train_loss[0] != first[0].train_loss[1]


def test_a_replicate_does_not_depend_on_those_beside_it(problem: Problem) -> None:
    splits = load_splits(problem.data)
    together, _ = run(problem, splits)
    alone, _ = run(problem, splits, replicates=1)
    assert [result.train_loss[0] for result in together] == [result.train_loss[0] for result in alone]


def test_an_epoch_is_a_pass_of_adam_over_every_image_once(problem: Problem) -> None:
    """Against the plainest loop, with torch's own loss; the last batch is partial and counts as such."""
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, epochs=2, replicates=1, batch_size=64)
    problem = dataclasses.replace(problem, train=settings)
    (replicate,) = make_replicates(problem, splits)
    (reference,) = make_replicates(problem, splits)
    optimizer = Adam(reference.model.parameters())
    seen: list[Tensor] = []

    def loss(z: Tensor, y: Tensor) -> Tensor:
        if z.requires_grad:
            seen.append(y)
        return cross_entropy(z, y)

    images, labels = splits["train"].images, splits["train"].labels
    for epoch, result in enumerate(train([replicate], loss, splits, settings)):
        order = torch.randperm(len(labels), generator=reference.generator)
        losses, weights = [], []
        for step in range(4):
            batch = order[64 * step : 64 * (step + 1)]
            value = F.cross_entropy(reference.model(images[batch]), labels[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step(2e-3 * (1 + math.cos(math.pi * (4 * epoch + step) / 8)) / 2)
            losses.append(value.item())
            weights.append(len(batch))
        assert weights == [64, 64, 64, 8]
        assert torch.equal(torch.cat(seen[4 * epoch : 4 * epoch + 4]), labels[order])
        expected = sum(value * weight for value, weight in zip(losses, weights, strict=True)) / 200
        assert result.train_loss[0] == pytest.approx(expected, rel=1e-4)
        reference.model.eval()
        z = reference.model(splits["validation"].images)
        reference.model.train()
        assert result.validation_loss[0] == pytest.approx(
            F.cross_entropy(z, splits["validation"].labels).item(), rel=1e-3
        )


def test_schedules_are_their_closed_forms() -> None:
    def at(schedule: Any, progress: float) -> float:
        return learning_rate(TrainSettings(schedule=schedule, learning_rate=0.5), progress)

    assert {at("constant", progress) for progress in (0, 0.4, 0.99)} == {0.5}
    assert at("cosine", 0) == 0.5
    assert at("cosine", 0.5) == pytest.approx(0.25)
    assert 0 < at("cosine", 0.999) < 1e-5
    assert [at("step", progress) for progress in (0, 0.499, 0.5, 0.749, 0.75, 0.99)] == pytest.approx(
        [0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
    )


def test_a_loss_that_is_not_finite_ends_the_training_with_the_reason(problem: Problem) -> None:
    splits = load_splits(problem.data)
    seed = replicate_seeds(problem.train)[0]
    with pytest.raises(
        NonFiniteLoss, match=rf"the (training|validation) loss became (nan|inf) in epoch \d \(replicate seed {seed}\)"
    ):
        run(problem, splits, learning_rate=1e30, schedule="constant")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_trains_with_the_loss_in_single_precision(problem: Problem, precision: Any) -> None:
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, precision=precision, replicates=1, epochs=1)
    problem = dataclasses.replace(problem, train=settings)
    replicates = make_replicates(problem, splits)
    seen = set()

    def loss(z: Tensor, y: Tensor) -> Tensor:
        value = i_sce(z, y, 1.0, 0.1)
        seen.add((z.dtype, value.dtype))
        return value

    (result,) = train(replicates, loss, splits, settings)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {(half, torch.float32)}
    assert {parameter.dtype for parameter in replicates[0].model.parameters()} == {torch.float32}
    (exact,) = train(
        make_replicates(problem, splits),
        lambda z, y: i_sce(z, y, 1.0, 0.1),
        splits,
        dataclasses.replace(settings, precision="fp32"),
    )
    assert result.train_loss[0] == pytest.approx(exact.train_loss[0], rel=0.02)


def test_validation_leaves_batch_normalization_alone(noise: dict[str, Split]) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, accuracy = evaluate_split(model, cross_entropy, noise["validation"], TrainSettings())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    z = model(noise["validation"].images)
    torch.testing.assert_close(loss, F.cross_entropy(z, noise["validation"].labels))
    assert accuracy == (z.argmax(1) == noise["validation"].labels).float().mean()


def test_colour_images_are_standardised_inside_the_model_and_digits_are_not(
    problem: Problem, noise: dict[str, Split]
) -> None:
    colour = dataclasses.replace(problem, model="cnn8")
    (replicate, _) = make_replicates(colour, noise)
    inside = replicate.model[0](noise["train"].images)  # type: ignore[index]
    deviation, mean = torch.std_mean(inside, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=1e-5, rtol=0)
    (digits, _) = make_replicates(problem, load_splits(problem.data))
    assert not list(digits.model.buffers())


def test_augmented_training_sees_other_images(problem: Problem, noise: dict[str, Split]) -> None:
    colour = dataclasses.replace(problem, model="cnn8", train=TrainSettings(epochs=1, batch_size=8, learning_rate=1e-3))
    first, second, third = (
        next(train(make_replicates(colour, noise), cross_entropy, noise, colour.train, augment=augment)).train_loss
        for augment in (True, True, False)
    )
    assert first == second != third


@pytest.mark.parametrize("batch_size", [200, 10])
def test_one_transfer_to_the_host_an_epoch(problem: Problem, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, batch_size=batch_size, replicates=1, epochs=1)
    replicates = make_replicates(dataclasses.replace(problem, train=settings), splits)
    transfers = []
    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "__iter__"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *arguments: Any, name: str = name, original: Any = original) -> Any:
            transfers.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(Tensor, name, counted)
    next(train(replicates, cross_entropy, splits, settings))
    assert transfers == ["tolist"]
