"""Projected gradient descent that sets its own step: Auto-PGD."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np

from trainables.attacks.engine.attack import Batch
from trainables.attacks.engine.iterative import LossAttack
from trainables.registry import register
from trainables.settings.checks import count

if TYPE_CHECKING:
    from torch import Tensor

FIRST_STEP: Final = 2.0  # in radii
STEP_SHARE: Final = 0.75  # of a move; the rest repeats the previous move
RISING_SHARE: Final = 0.75  # of an interval's moves; a step that lets the loss rise in no more of them is too long

# The first interval between checkpoints, how much shorter each following one is, and the shortest, as shares of steps.
INTERVALS: Final = (0.22, 0.03, 0.06)


@register("apgd")
@dataclass(frozen=True, kw_only=True)
class APGD(LossAttack):
    """Steps with momentum up each image's own loss, halved where they lead nowhere, from random starts on the surface.

    At a checkpoint an image's step is halved, and the image returns to its best point, if the loss has not risen often
    enough since the last checkpoint, or if its best value has not risen and the step was not halved at that checkpoint.

    The first move never counts as a rise, as in the authors' code with DLR (it compares with 0 instead of the loss at
    the start): from a random point every step length leads up. Counted as in the paper, it left more images standing
    after 10 steps (of 500 digits within 1.5 of a LeNet-5 trained with I-SCE, 162 against 151 with cross entropy on f,
    136 against 128 with targeted DLR), and as many after 40.

    Args:
        restarts: Random starts; with targets, for each of them.
        target: Away from the true class, or towards the ``likeliest`` wrong classes, one run each.
        targets: How many classes to target; all wrong ones if there are fewer.
    """

    source: ClassVar[str] = (
        'Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse '
        "parameter-free attacks\", algorithm 1, rounded as in the authors' code"
    )

    steps: int = count(100)
    target: Literal["untargeted", "likeliest"] = "untargeted"
    targets: int = count(9)

    def schedule(self, classes: int) -> tuple[int, int]:
        targets = 1 if self.target == "untargeted" else min(self.targets, classes - 1)
        return self.restarts * targets, self.steps + 1

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        import torch

        clean, zeros = batch.clean, torch.zeros_like(batch.labels)
        lowest = clean.new_full((len(batch),), -torch.inf)
        if self.target == "likeliest":
            batch.memory["target"] = batch.rivals(self.targets)[:, restart // self.restarts]
        batch.memory |= {
            "moves": zeros,
            "length": torch.full_like(lowest, FIRST_STEP * batch.radius),
            "before": clean,
            "loss": lowest,
            "rises": zeros,
            "best": clean,
            "best_gradient": torch.zeros_like(clean),
            "best_loss": lowest,
            "best_loss_then": lowest,
            "halved": torch.ones_like(zeros, dtype=torch.bool),
        }
        change = batch.ball.noise(clean, batch.index, rng)
        return clean + batch.radius * change / batch.ball.size(change)

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        memory, images = batch.memory, batch.images.detach()
        losses, gradient = self.climb(batch, logits, memory.get("target"))
        moves = int(memory["moves"][0])  # the same for every image of a batch
        better = losses > memory["best_loss"]
        memory |= {
            "best": images.where(_wide(better), memory["best"]),
            "best_gradient": gradient.where(_wide(better), memory["best_gradient"]),
            "best_loss": losses.where(better, memory["best_loss"]),
        }
        if moves > 1:
            memory["rises"] = memory["rises"] + (losses > memory["loss"])
        interval = checkpoints(self.steps).get(moves)
        if interval is not None:
            oscillating = memory["rises"] <= RISING_SHARE * interval
            stuck = ~memory["halved"] & (memory["best_loss"] <= memory["best_loss_then"])
            halve = oscillating | stuck
            images = memory["best"].where(_wide(halve), images)
            gradient = memory["best_gradient"].where(_wide(halve), gradient)
            memory |= {
                "length": (memory["length"] / 2).where(halve, memory["length"]),
                "halved": halve,
                "best_loss_then": memory["best_loss"],
                "rises": memory["rises"].new_zeros(len(halve)),
            }
        step = _wide(memory["length"]) * batch.ball.steepest(gradient)
        stepped = batch.ball.project(images + step, batch.clean)
        share = STEP_SHARE if moves else 1.0
        moved = images + share * (stepped - images) + (1 - share) * (images - memory["before"])
        memory |= {"moves": memory["moves"] + 1, "before": images, "loss": losses}
        return moved


@cache
def checkpoints(steps: int) -> dict[int, int]:
    """After how many moves step lengths are reviewed, each with the moves since the last time."""
    interval, shorter, shortest = (max(int(share * steps), 1) for share in INTERVALS)
    intervals, moves = {}, interval
    while moves <= steps:
        intervals[moves] = interval
        interval = max(interval - shorter, shortest)
        moves += interval
    return intervals


def _wide(values: Tensor) -> Tensor:
    """Values of images, (b,), as (b, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
