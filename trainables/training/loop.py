"""Training as a generator: one result an epoch, replicates side by side, nothing moved to the host in between."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.splits import Split, shift_and_flip
from trainables.losses import LossFunction
from trainables.models import build_model
from trainables.settings import Problem, TrainSettings
from trainables.training.adam import Adam

EVALUATION_BATCH = 1024
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLoss(ArithmeticError):
    """A loss left the finite numbers, so the trial has failed.

    Args:
        which: ``training`` or ``validation``.
        loss: The epoch's mean loss.
        epoch: The epoch, from 1.
        seed: The replicate's seed.
    """

    def __init__(self, which: str, loss: float, epoch: int, seed: int) -> None:
        super().__init__(f"the {which} loss became {loss} in epoch {epoch} (replicate seed {seed})")


@dataclass(frozen=True)
class ReplicateEpoch:
    """One epoch of one replicate: mean losses in nats, accuracies as fractions, wall time in seconds.

    The robust estimate is there at a rung alone; its time is in ``seconds``.
    """

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    robust_estimate: float | None = None


@dataclass(frozen=True)
class EpochResult:
    """One epoch of all replicates; the tuples have one entry a replicate, in the order of the seeds.

    ``robust_estimate`` is empty where the epoch is no rung.
    """

    epoch: int
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    seconds: float
    robust_estimate: tuple[float, ...] = ()


@dataclass(eq=False)
class Replicate:
    """One model in training and all the state that its future depends on.

    The learning rate is a function of the epochs done, so the schedule has no state of its own.

    Args:
        seed: What its initial weights and its order of images derive from.
        model: The model.
        optimizer: Its optimiser.
        scaler: Scales the loss for fp16, whose gradients would underflow; disabled otherwise.
        generator: Draws permutations and augmentations, on the device.
        history: The epochs done.
    """

    seed: int
    model: nn.Module
    optimizer: Adam
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    history: list[ReplicateEpoch] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs, in types that ``torch.load(weights_only=True)`` admits."""
        return {
            "seed": self.seed,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "history": [asdict(epoch) for epoch in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            ValueError: The state is that of another seed.
        """
        if state["seed"] != self.seed:
            raise ValueError(
                f"the checkpoint must be that of replicate seed {self.seed}, got {state['seed']}; "
                "restore train.seed or choose another folder"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"])
        self.history = [ReplicateEpoch(**epoch) for epoch in state["history"]]


def replicate_seeds(settings: TrainSettings, replicates: Sequence[int] | None = None) -> tuple[int, ...]:
    """The replicates' seeds: the same for every setting, and replicate r's whatever their number.

    Args:
        settings: What the seeds derive from.
        replicates: Which replicates, counted from 0; the first ``settings.replicates`` where it is None.
    """
    wanted = range(settings.replicates) if replicates is None else replicates
    return tuple(_derived(settings.seed, r) for r in wanted)


def make_replicates(
    problem: Problem,
    splits: Mapping[str, Split],
    replicates: Sequence[int] | None = None,
) -> list[Replicate]:
    """Untrained replicates of a problem's model; the same for every setting, since random numbers are common.

    Args:
        problem: The model and how it is trained.
        splits: The ``train`` split at least: it gives the number of channels, the colour statistics, and the device
            where the models live.
        replicates: Which replicates, as in ``replicate_seeds``.

    Returns:
        One replicate a seed.
    """
    return [make_replicate(problem, splits["train"], seed) for seed in replicate_seeds(problem.train, replicates)]


def make_replicate(problem: Problem, split: Split, seed: int) -> Replicate:
    """One untrained replicate.

    Args:
        problem: The model and how it is trained.
        split: The training images; the model lives on their device.
        seed: The replicate's, one of ``replicate_seeds``.
    """
    device, (channels, size) = split.images.device, split.images.shape[1:3]
    # Digits are used as they are; colour images are standardised inside the model.
    statistics = None
    if channels > 1:
        deviation, mean = torch.std_mean(split.images, dim=(0, 2, 3))
        statistics = (mean.cpu(), deviation.cpu())
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(_derived(seed, 0))
        model = build_model(problem.model, channels, statistics=statistics, size=size)
    model.to(device)
    return Replicate(
        seed=seed,
        model=model,
        optimizer=Adam(model.parameters()),
        scaler=torch.amp.GradScaler(device.type, enabled=problem.train.precision == "fp16"),
        generator=torch.Generator(device).manual_seed(_derived(seed, 1)),
    )


def _derived(seed: int, index: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1)[0])


def train(
    replicates: Sequence[Replicate],
    loss: LossFunction,
    splits: Mapping[str, Split],
    settings: TrainSettings,
    *,
    augment: bool = False,
) -> Iterator[EpochResult]:
    """Trains the replicates to ``settings.epochs``, from wherever they are.

    Args:
        replicates: Models in training, all at the same epoch; advanced in place.
        loss: From raw logits (n, k) and labels (n,) to a scalar.
        splits: ``train`` and ``validation``, on the models' device.
        settings: Epochs, batch size, learning rate and precision.
        augment: Whether training images are shifted and flipped.

    Yields:
        One result an epoch, once every replicate has done it.

    Raises:
        NonFiniteLoss: A replicate's training or validation loss of an epoch is not finite.
    """
    epochs = {replicate.epoch for replicate in replicates}
    assert len(epochs) == 1, f"replicates at different epochs: {sorted(epochs)}"
    for _ in range(epochs.pop(), settings.epochs):
        for replicate in replicates:
            _train_epoch(replicate, loss, splits, settings, augment)
        yield epoch_result(replicates, replicates[0].epoch)


def epoch_result(replicates: Sequence[Replicate], epoch: int) -> EpochResult:
    """What an epoch gave that the replicates have done, counted from 1."""
    rows = [replicate.history[epoch - 1] for replicate in replicates]
    return EpochResult(
        epoch=epoch,
        train_loss=tuple(row.train_loss for row in rows),
        validation_loss=tuple(row.validation_loss for row in rows),
        validation_accuracy=tuple(row.validation_accuracy for row in rows),
        seconds=sum(row.seconds for row in rows),
        robust_estimate=tuple(row.robust_estimate for row in rows if row.robust_estimate is not None),
    )


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """The learning rate of a step.

    Args:
        settings: Schedule and initial learning rate. Cosine falls with every step of the optimiser.
        progress: Steps done as a fraction of all steps of the training, in [0, 1).

    Returns:
        The step size.

    Source:
        Cosine: Loshchilov and Hutter 2017, "SGDR", Eq. 5 without restarts.
    """
    factor = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "step": 0.1 ** ((progress >= 0.5) + (progress >= 0.75)),
    }[settings.schedule]
    return settings.learning_rate * factor


def _train_epoch(
    replicate: Replicate, loss: LossFunction, splits: Mapping[str, Split], settings: TrainSettings, augment: bool
) -> None:
    start = time.perf_counter()
    split = splits["train"]
    n, device = len(split), split.labels.device
    batches = torch.split(torch.randperm(n, generator=replicate.generator, device=device), settings.batch_size)
    total = torch.zeros((), device=device)
    replicate.model.train()
    for step, batch in enumerate(batches):
        images = split.images[batch]
        if augment:
            images = shift_and_flip(images, replicate.generator)
        progress = (replicate.epoch + step / len(batches)) / settings.epochs
        total += training_step(replicate, loss, images, split.labels[batch], settings, progress) * len(batch)
    evaluation = evaluate_split(replicate.model, loss, splits["validation"], settings)
    # The one transfer of the epoch.
    train_loss, validation_loss, accuracy = torch.stack([total / n, *evaluation]).tolist()
    for which, value in (("training", train_loss), ("validation", validation_loss)):
        if not math.isfinite(value):
            raise NonFiniteLoss(which, value, replicate.epoch + 1, replicate.seed)
    replicate.history.append(ReplicateEpoch(train_loss, validation_loss, accuracy, time.perf_counter() - start))


def training_step(
    replicate: Replicate,
    loss: LossFunction,
    images: Tensor,
    labels: Tensor,
    settings: TrainSettings,
    progress: float,
) -> Tensor:
    """One step of the optimiser on one batch.

    Args:
        replicate: Changed in place.
        loss: From raw logits (n, k) and labels (n,) to a scalar.
        images: Shape (n, c, h, w).
        labels: Shape (n,).
        settings: Learning rate, schedule and precision.
        progress: Steps done as a fraction of all steps of the training, in [0, 1).

    Returns:
        The batch's mean loss before the step, a scalar on the device.
    """
    with _autocast(images.device, settings):
        z = replicate.model(images)
    value = loss(z, labels)
    replicate.optimizer.zero_grad()
    replicate.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
    replicate.scaler.step(replicate.optimizer, learning_rate(settings, progress))  # type: ignore[arg-type]
    replicate.scaler.update()
    return value.detach()


@torch.no_grad()
def evaluate_split(
    model: nn.Module, loss: LossFunction, split: Split, settings: TrainSettings
) -> tuple[Tensor, Tensor]:
    """Mean loss and accuracy of a model in evaluation mode, scalars on the device."""
    model.eval()
    with _autocast(split.images.device, settings):
        z = torch.cat([model(images) for images in torch.split(split.images, EVALUATION_BATCH)])
    return loss(z, split.labels), (z.argmax(-1) == split.labels).float().mean()


def _autocast(device: torch.device, settings: TrainSettings) -> AbstractContextManager[object]:
    if settings.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, AUTOCAST_DTYPES[settings.precision])
