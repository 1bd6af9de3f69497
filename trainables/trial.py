"""One trial without any search around it: train a setting, resume it, attack it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trainables.candidate import Candidate
from trainables.data.splits import Split, load_splits
from trainables.losses import loss_function
from trainables.robustness import Outcomes
from trainables.robustness.evaluate import evaluate
from trainables.settings import Problem, RobustnessSettings, Rungs
from trainables.training.checkpoint import claim, load_latest, save
from trainables.training.loop import EpochResult, Replicate, epoch_result, make_replicates, train


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
    setting: Candidate,
    *,
    replicates: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    owner: int = 0,
    rungs: Rungs | None = None,
    splits: Mapping[str, Split] | None = None,
    progress: Callable[[float, int], None] | None = None,
) -> Iterator[EpochResult | SettingResult]:
    """Trains a setting to the end, from its latest checkpoint if there is one, and attacks it.

    Args:
        problem: Data, model, training and attacks.
        setting: The loss and its parameters.
        replicates: Which replicates, counted from 0; the problem's own where it is None.
        device: Where everything runs.
        checkpoints: Folder of the setting's checkpoints, one saved an epoch; None to save none.
        owner: Who claims that folder; a later owner has a higher number.
        rungs: Where the robustness is estimated during the training.
        splits: ``train`` and ``validation`` if they are loaded already.
        progress: Called with runs of an attack that are done, and their total.

    Yields:
        An ``EpochResult`` an epoch, then one ``SettingResult``. A resumed training first yields the epochs that its
        checkpoint holds: whoever was told of them may have died before it could write them down.

    Raises:
        NonFiniteLoss: The training diverged.
        DataMissing: The data set is not there.
        ValueError: The checkpoints are those of another problem.
        Superseded: A later owner has claimed the folder of the checkpoints.
    """
    splits = splits or load_splits(problem.data, device)
    models = make_replicates(problem, splits, replicates)
    if checkpoints:
        claim(checkpoints, owner)
        for epoch in range(load_latest(checkpoints, models)):
            yield epoch_result(models, epoch + 1)
    for result in train(models, loss_function(setting), splits, problem.train, augment=problem.data.augment):
        if rungs is not None and result.epoch in rungs.epochs:
            estimate_robustness(models, splits["validation"], rungs.robustness)
        if checkpoints:
            save(checkpoints, models, result.epoch, owner)
        yield epoch_result(models, result.epoch)

    start = time.perf_counter()
    outcomes = evaluate(
        [replicate.model for replicate in models],
        splits["validation"],
        problem.robustness,
        [replicate.seed for replicate in models],
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
            for r, replicate in enumerate(models)
        ],
        train_seconds=sum(epoch.seconds for replicate in models for epoch in replicate.history),
        attack_seconds=attack_seconds,
    )


def estimate_robustness(replicates: Sequence[Replicate], validation: Split, settings: RobustnessSettings) -> None:
    """Writes the robust accuracy under a cheap attack into the last epoch of each replicate's history."""
    start = time.perf_counter()
    models = [replicate.model for replicate in replicates]
    robust = evaluate(models, validation, settings, [replicate.seed for replicate in replicates]).robust_accuracy()
    seconds = (time.perf_counter() - start) / len(replicates)
    for replicate, estimate in zip(replicates, robust.tolist(), strict=True):
        last = replicate.history[-1]
        replicate.history[-1] = replace(last, robust_estimate=estimate, seconds=last.seconds + seconds)
