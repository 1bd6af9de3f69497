"""One trial without any search around it: train a setting, resume it, attack it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainables.checkpoint import load_latest, save
from trainables.data.splits import Split, load_splits
from trainables.losses import loss_function
from trainables.robustness import Outcomes, evaluate
from trainables.settings import Problem, Setting
from trainables.train import EpochResult, epoch_result, make_replicates, train


@dataclass(frozen=True)
class SettingResult:
    """What a trained and attacked setting is worth.

    Args:
        outcomes: Per image: label kept?
        objectives: ``clean_accuracy`` and ``robust_accuracy``, means over the replicates, in [0, 1].
        replicates: One mapping a replicate: ``seed``, the objectives, the last epoch's losses, and the accuracy under
            each attack and view in ``attack_accuracy``.
        train_seconds: Wall time of all epochs, those before an interruption included.
        attack_seconds: Wall time of the robust evaluation.
    """

    outcomes: Outcomes
    objectives: dict[str, float]
    replicates: list[dict[str, Any]]
    train_seconds: float
    attack_seconds: float


def run_setting(
    problem: Problem,
    setting: Setting,
    *,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    splits: Mapping[str, Split] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[EpochResult | SettingResult]:
    """Trains a setting to the end, from its latest checkpoint if there is one, and attacks it.

    Args:
        problem: Data, model, training and attacks.
        setting: The loss and its parameters.
        device: Where everything runs.
        checkpoints: Folder of the setting's checkpoints, one saved an epoch; None to save none.
        splits: ``train`` and ``validation`` if they are loaded already.
        progress: Called with attacks done and attacks in all.

    Yields:
        An ``EpochResult`` an epoch, then one ``SettingResult``. A resumed training first yields the epochs that its
        checkpoint holds: whoever was told of them may have died before it could write them down.

    Raises:
        NonFiniteLoss: The training diverged.
        DataMissing: The data set is not there.
        ValueError: The checkpoints are those of another problem.
    """
    splits = splits or load_splits(problem.data, device)
    replicates = make_replicates(problem, splits, device)
    if checkpoints:
        for epoch in range(load_latest(checkpoints, replicates)):
            yield epoch_result(replicates, epoch + 1)
    for result in train(replicates, loss_function(setting), splits, problem.train, augment=problem.data.augment):
        if checkpoints:
            save(checkpoints, replicates, result.epoch)
        yield result

    start = time.perf_counter()
    outcomes = evaluate(
        [replicate.model for replicate in replicates],
        splits["validation"],
        problem.robustness,
        [replicate.seed for replicate in replicates],
        progress,
    )
    attack_seconds = time.perf_counter() - start
    clean, robust = outcomes.clean_accuracy(), outcomes.robust_accuracy()
    attacks = outcomes.attack_accuracy()
    yield SettingResult(
        outcomes=outcomes,
        objectives={"clean_accuracy": float(clean.mean()), "robust_accuracy": float(robust.mean())},
        replicates=[
            {
                "seed": replicate.seed,
                "clean_accuracy": float(clean[r]),
                "robust_accuracy": float(robust[r]),
                "train_loss": replicate.history[-1].train_loss,
                "validation_loss": replicate.history[-1].validation_loss,
                "attack_accuracy": {name: float(accuracy[r]) for name, accuracy in attacks.items()},
            }
            for r, replicate in enumerate(replicates)
        ],
        train_seconds=sum(epoch.seconds for replicate in replicates for epoch in replicate.history),
        attack_seconds=attack_seconds,
    )
