from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.splits import Split, load_splits
from trainables.losses.cross_entropy import CrossEntropy
from trainables.losses.i_sce import ISCE
from trainables.models.cnn8 import CNN8
from trainables.registry import make
from trainables.settings import DataSettings, Problem, TrainSettings
from trainables.training.loop import EpochResult, NonFiniteLoss, evaluate_split, learning_rate, train
from trainables.training.replicate import Objective, Replicate, make_replicates, replicate_seeds


def run(problem: Problem, splits: dict[str, Split], **changes: Any) -> tuple[list[EpochResult], list[Replicate]]:
    problem = dataclasses.replace(problem, train=dataclasses.replace(problem.train, **changes))
    replicates = make_replicates(problem, splits)
    return list(train(replicates, splits, problem)), replicates


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
    optimizer = torch.optim.Adam(reference.model.parameters(), fused=True)
    seen: list[Tensor] = []
    replicate.loss.register_forward_pre_hook(lambda loss, given: seen.append(given[2]) if loss.training else None)
    images, labels = splits["train"].images, splits["train"].labels
    for epoch, result in enumerate(train([replicate], splits, problem)):
        order = torch.randperm(len(labels), generator=reference.generator)
        losses, weights = [], []
        for step in range(4):
            batch = order[64 * step : 64 * (step + 1)]
            value = F.cross_entropy(reference.model(images[batch]), labels[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * (4 * epoch + step) / 8)) / 2
            optimizer.step()
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
    problem = dataclasses.replace(problem, loss=ISCE(), train=settings)
    replicates = make_replicates(problem, splits)
    of_model, of_loss = set(), set()
    replicates[0].model.register_forward_hook(lambda _, __, z: of_model.add(z.dtype))
    replicates[0].loss.register_forward_hook(
        lambda _, given, value: of_loss.add((given[1].dtype, value.dtype, torch.is_autocast_enabled("cpu")))
    )
    (result,) = train(replicates, splits, problem)
    assert of_model == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert of_loss == {(torch.float32, torch.float32, False)}
    assert {parameter.dtype for parameter in replicates[0].model.parameters()} == {torch.float32}
    single = dataclasses.replace(problem, train=dataclasses.replace(settings, precision="fp32"))
    (exact,) = train(make_replicates(single, splits), splits, single)
    assert result.train_loss[0] == pytest.approx(exact.train_loss[0], rel=0.02)


def test_validation_leaves_batch_normalization_alone(noise: dict[str, Split]) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    objective = Objective(model, CrossEntropy().build(None, 10), None)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss, accuracy = evaluate_split(objective, noise["validation"], TrainSettings())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    z = model(noise["validation"].images)
    torch.testing.assert_close(loss, F.cross_entropy(z, noise["validation"].labels))
    assert accuracy == (z.argmax(1) == noise["validation"].labels).float().mean()


def test_colour_images_are_standardised_inside_the_model_and_digits_are_not(
    problem: Problem, noise: dict[str, Split]
) -> None:
    colour = dataclasses.replace(problem, model=CNN8())
    (replicate, _) = make_replicates(colour, noise)
    inside = replicate.model[0](noise["train"].images)  # type: ignore[index]
    deviation, mean = torch.std_mean(inside, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=1e-5, rtol=0)
    (digits, _) = make_replicates(problem, load_splits(problem.data))
    assert not list(digits.model.buffers())


def test_augmented_training_sees_other_images(problem: Problem, noise: dict[str, Split]) -> None:
    colour = dataclasses.replace(problem, model=CNN8(), train=TrainSettings(epochs=1, batch_size=8, learning_rate=1e-3))
    augmented = dataclasses.replace(colour, data=dataclasses.replace(colour.data, augment=True))
    first, second, third = (
        next(train(make_replicates(each, noise), noise, each)).train_loss for each in (augmented, augmented, colour)
    )
    assert first == second != third


@pytest.mark.parametrize("batch_size", [200, 10])
def test_one_transfer_to_the_host_an_epoch(problem: Problem, monkeypatch: pytest.MonkeyPatch, batch_size: int) -> None:
    splits = load_splits(problem.data)
    settings = dataclasses.replace(problem.train, batch_size=batch_size, replicates=1, epochs=1)
    problem = dataclasses.replace(problem, train=settings)
    replicates = make_replicates(problem, splits)
    transfers = []
    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "__iter__"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *arguments: Any, name: str = name, original: Any = original) -> Any:
            transfers.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(Tensor, name, counted)
    next(train(replicates, splits, problem))
    assert transfers == ["tolist"]


def test_a_models_dropout_depends_on_the_seed_alone(problem: Problem, noise: dict[str, Split]) -> None:
    settings = dataclasses.replace(problem.train, epochs=1, replicates=1)
    problem = dataclasses.replace(
        problem, model=make("model", "tests.trainables.plugins:Branches", {"width": 3}), train=settings
    )
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results += numbers(list(train(make_replicates(problem, noise), noise, problem)))
        assert torch.equal(before, torch.get_rng_state())
    assert results[0] == results[1]


def test_every_loss_starts_from_the_same_weights_and_order(problem: Problem) -> None:
    splits = load_splits(problem.data)
    losses = [CrossEntropy(), ISCE(), make("loss", "tests.trainables.plugins:Prototypes")]
    first, *others = (make_replicates(dataclasses.replace(problem, loss=loss), splits)[0] for loss in losses)
    for other in others:
        assert torch.equal(first.generator.get_state(), other.generator.get_state())
        for name, value in first.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name])


def test_the_number_of_classes_is_the_data_sets_or_the_labels(noise: dict[str, Split]) -> None:
    split = noise["train"]
    assert Split(split.images, split.labels % 3).classes == 3
