"""Training as a generator: one result per epoch, replicates side by side, nothing moved to the host in between."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.attacks.engine.victim import isolated_randomness
from trainables.data.splits import Split, shift_and_flip
from trainables.settings import Problem, TrainSettings
from trainables.training.replicate import Objective, Replicate, ReplicateEpoch

EVALUATION_BATCH = 1024
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFiniteLoss(ArithmeticError):
    """A loss is not finite any more, so the trial has failed."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch of all replicates; the tuples have one entry per replicate, in the order of the seeds."""

    epoch: int
    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    seconds: float
    robust_estimate: tuple[float, ...] = ()  # empty unless the epoch is a rung
    selection_accuracy: tuple[float, ...] = ()  # empty unless the best epoch is kept


def train(replicates: Sequence[Replicate], splits: Mapping[str, Split], problem: Problem) -> Iterator[EpochResult]:
    """Trains the replicates to ``problem.train.epochs``, from wherever they are; yields once all have done an epoch.

    Args:
        replicates: Made for this problem, all at the same epoch; advanced in place.
        splits: ``train`` and ``validation``, on the models' device.

    Raises:
        NonFiniteLoss: A replicate's training or validation loss of an epoch is not finite.
    """
    for _ in range(replicates[0].epoch, problem.train.epochs):
        for replicate in replicates:
            with isolated_randomness(replicate.layers_seed()):
                _train_epoch(replicate, splits, problem)
        yield epoch_result(replicates, replicates[0].epoch)


def epoch_result(replicates: Sequence[Replicate], epoch: int) -> EpochResult:
    """The result of an epoch that the replicates have done, counted from 1."""
    rows = [replicate.history[epoch - 1] for replicate in replicates]
    return EpochResult(
        epoch=epoch,
        train_loss=tuple(row.train_loss for row in rows),
        validation_loss=tuple(row.validation_loss for row in rows),
        validation_accuracy=tuple(row.validation_accuracy for row in rows),
        seconds=sum(row.seconds for row in rows),
        robust_estimate=tuple(row.robust_estimate for row in rows if row.robust_estimate is not None),
        selection_accuracy=tuple(row.selection_accuracy for row in rows if row.selection_accuracy is not None),
    )


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """The learning rate of a step, after a fraction ``progress`` in [0, 1) of all steps of the training.

    Source:
        Cosine: Loshchilov and Hutter 2017, "SGDR", Eq. 5 without restarts.
    """
    factor = {
        "constant": 1.0,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
        "step": 0.1 ** ((progress >= 0.5) + (progress >= 0.75)),
    }[settings.schedule]
    return settings.learning_rate * factor


def _train_epoch(replicate: Replicate, splits: Mapping[str, Split], problem: Problem) -> None:
    start = time.perf_counter()
    settings, split = problem.train, splits["train"]
    n, device = len(split), split.labels.device
    batches = torch.split(torch.randperm(n, generator=replicate.generator, device=device), settings.batch_size)
    total = torch.zeros((), device=device)
    replicate.objective.train()
    for step, batch in enumerate(batches):
        images = split.images[batch]
        if problem.data.augment:
            images = shift_and_flip(images, replicate.generator)
        progress = (replicate.epoch + step / len(batches)) / settings.epochs
        total += training_step(replicate, images, split.labels[batch], settings, progress) * len(batch)
    evaluation = evaluate_split(replicate.objective, splits["validation"], settings)
    # The one transfer of the epoch.
    train_loss, validation_loss, accuracy = torch.stack([total / n, *evaluation]).tolist()
    for which, value in (("training", train_loss), ("validation", validation_loss)):
        if not math.isfinite(value):
            epoch = replicate.epoch + 1
            raise NonFiniteLoss(f"the {which} loss became {value} in epoch {epoch} (replicate seed {replicate.seed})")
    replicate.history.append(ReplicateEpoch(train_loss, validation_loss, accuracy, time.perf_counter() - start))


def training_step(
    replicate: Replicate, images: Tensor, labels: Tensor, settings: TrainSettings, progress: float
) -> Tensor:
    """One step of the optimizer on a batch of images (n, c, h, w) and labels (n,); ``progress`` as in `learning_rate`.

    Returns:
        The batch's mean loss before the step, a scalar on the device.
    """
    with _autocast(images.device, settings):
        value = replicate.defence.at(progress).training_loss(
            replicate.network, replicate.objective, images, labels, replicate.defence_generator
        )
    replicate.optimizer.zero_grad()
    for group in replicate.optimizer.param_groups:
        group["lr"] = learning_rate(settings, progress)
    replicate.scaler.scale(value).backward()  # type: ignore[no-untyped-call]
    replicate.scaler.step(replicate.optimizer)
    replicate.scaler.update()
    return value.detach()


@torch.no_grad()
def evaluate_split(objective: Objective, split: Split, settings: TrainSettings) -> tuple[Tensor, Tensor]:
    """Mean loss and accuracy in evaluation mode, scalars on the device.

    The accuracy is that of the network without the defence's wrapper, which may draw at random or cost many passes.
    """
    objective.eval()
    with _autocast(split.images.device, settings):
        outputs = [objective.outputs(images) for images in torch.split(split.images, EVALUATION_BATCH)]
    logits = torch.cat([part for _, part in outputs])
    features = None if objective.features is None else torch.cat([part for part, _ in outputs if part is not None])
    predicted = objective.decisive(features, logits).argmax(-1)
    return objective.value(features, logits, split.labels), (predicted == split.labels).float().mean()


def _autocast(device: torch.device, settings: TrainSettings) -> torch.autocast:
    dtype = AUTOCAST_DTYPES.get(settings.precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
