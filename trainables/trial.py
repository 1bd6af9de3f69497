"""One trial without any search around it: train a candidate, resume it, attack it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import torch

from trainables.attacks.pgd import PGD
from trainables.candidate import Candidate, resolve
from trainables.data.splits import Split, load_splits
from trainables.robustness import Outcomes
from trainables.robustness.evaluate import evaluate
from trainables.settings import Problem, RobustnessSettings, Rungs
from trainables.training.checkpoint import BEST, claim, load_latest, load_trained, save, save_best
from trainables.training.loop import EpochResult, epoch_result, train
from trainables.training.replicate import Replicate, make_replicates

# The attack that selects the best epoch, similar to what the defences train against.
SELECTION: Final = PGD(steps=10)
SELECTION_IMAGES: Final = 200


@dataclass(frozen=True)
class Best:
    """The best epoch of each replicate, with its accuracies under the same evaluation as the last epoch."""

    epochs: tuple[int, ...]  # counted from 1
    clean: tuple[float, ...]
    robust: tuple[float, ...]


@dataclass(frozen=True)
class CandidateResult:
    """What the training and the attacks of a candidate gave; the tuples have one entry per replicate."""

    outcomes: Outcomes
    validation_losses: tuple[float, ...]  # of the last epoch, in nats
    train_seconds: tuple[float, ...]  # wall time of all epochs, those before an interruption included
    train_passes: int  # images that went forward or backward in the training of one replicate
    attack_seconds: float  # wall time of the robust evaluation of all replicates
    best: Best | None = None  # None unless the defence keeps the best epoch


def run_candidate(
    problem: Problem,
    candidate: Candidate,
    *,
    replicates: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    owner: int = 0,
    rungs: Rungs | None = None,
    splits: Mapping[str, Split] | None = None,
) -> Iterator[EpochResult | CandidateResult]:
    """Trains a candidate to the end, from its latest checkpoint if there is one, and attacks it.

    Args:
        problem: What the candidates of a search share.
        replicates: Which replicates, counted from 0; None for the problem's own.
        checkpoints: Folder of the candidate's checkpoints, one per epoch; None to save none, not even the best epoch.
        owner: The owner that claims the folder; a later owner has a higher number.
        rungs: After which epochs the robustness is estimated.
        splits: ``train`` and ``validation`` if they are loaded already.

    Yields:
        An ``EpochResult`` per epoch, then one ``CandidateResult``. A resumed training first yields the epochs that its
        checkpoint holds: the process that received them before may have died before it could record them.

    Raises:
        NonFiniteLoss: The training diverged.
        ValueError: The candidate is not legal, the data is missing, or the checkpoints are those of another problem.
        Superseded: A later owner has claimed the folder of the checkpoints.
    """
    problem = resolve(problem, candidate)
    splits = splits or load_splits(problem.data, device)
    trained = make_replicates(problem, splits, replicates)
    if checkpoints:
        claim(checkpoints, owner)
        for epoch in range(load_latest(checkpoints, trained)):
            yield epoch_result(trained, epoch + 1)
    for result in train(trained, splits, problem):
        if rungs is not None and result.epoch in rungs.epochs:
            _estimate(trained, splits["validation"], rungs.robustness, "robust_estimate")
        if checkpoints and problem.defence.keeps_best:
            _estimate(trained, splits["validation"], _selection(problem.robustness), "selection_accuracy")
            for replicate in trained:
                if replicate.best_epoch == replicate.epoch:
                    save_best(checkpoints, replicate, candidate, owner)
        if checkpoints:
            save(checkpoints, trained, candidate, owner)
        yield epoch_result(trained, result.epoch)

    start = time.perf_counter()
    outcomes = _attacked(trained, splits["validation"], problem.robustness)
    keeps_best = problem.defence.keeps_best
    best = _best(trained, outcomes, problem, splits, checkpoints) if checkpoints and keeps_best else None
    yield CandidateResult(
        outcomes=outcomes,
        validation_losses=tuple(replicate.history[-1].validation_loss for replicate in trained),
        train_seconds=tuple(sum(epoch.seconds for epoch in replicate.history) for replicate in trained),
        train_passes=problem.train.epochs * len(splits["train"].labels) * problem.defence.passes,
        attack_seconds=time.perf_counter() - start,
        best=best,
    )


def _attacked(replicates: Sequence[Replicate], validation: Split, settings: RobustnessSettings) -> Outcomes:
    predictors = [replicate.predictor for replicate in replicates]
    return evaluate(predictors, validation, settings, [replicate.seed for replicate in replicates])


def _best(
    trained: Sequence[Replicate], last: Outcomes, problem: Problem, splits: Mapping[str, Split], checkpoints: Path
) -> Best:
    """Attacks the best epoch of each replicate, unless that is the last one, whose outcomes are known."""
    accuracies = []
    for r, replicate in enumerate(trained):
        outcomes, row = last, r
        if replicate.best_epoch < replicate.epoch:
            best = load_trained(checkpoints / BEST.format(replicate.seed), problem, splits)
            outcomes, row = _attacked(best, splits["validation"], problem.robustness), 0
        accuracies.append((float(outcomes.clean_accuracy()[row]), float(outcomes.robust_accuracy()[row])))
    clean, robust = zip(*accuracies, strict=True)
    return Best(tuple(replicate.best_epoch for replicate in trained), clean, robust)


def _selection(settings: RobustnessSettings) -> RobustnessSettings:
    """The settings of a cheap estimate of robust accuracy, on the images that the search sees."""
    images = min(SELECTION_IMAGES, settings.images)
    radius, view = settings.epsilons[0], settings.views[:1]
    return replace(settings, attacks=(SELECTION,), epsilon=radius, views=view, images=images)


def _estimate(
    replicates: Sequence[Replicate],
    validation: Split,
    settings: RobustnessSettings,
    name: Literal["robust_estimate", "selection_accuracy"],
) -> None:
    """Writes the robust accuracy under a cheap attack into the last epoch of each replicate's history."""
    start = time.perf_counter()
    robust = _attacked(replicates, validation, settings).robust_accuracy()
    seconds = (time.perf_counter() - start) / len(replicates)
    for replicate, estimate in zip(replicates, robust.tolist(), strict=True):
        last = replicate.history[-1]
        changes: dict[str, Any] = {name: estimate, "seconds": last.seconds + seconds}
        replicate.history[-1] = replace(last, **changes)
