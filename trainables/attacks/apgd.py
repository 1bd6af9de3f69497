"""Projected gradient descent that sets its own step: Auto-PGD."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
import torch
from torch import Tensor

from trainables.attacks.base import Batch, StepAttack
from trainables.attacks.margins import likeliest, objective
from trainables.attacks.starts import noise
from trainables.settings import AttackLoss, AttackTarget

# The first step's length, in radii.
FIRST_STEP: Final = 2.0

# How much of a move is the step's; the rest repeats the move before.
STEP_SHARE: Final = 0.75

# The first interval between checkpoints, what each following one is shorter by, and the shortest, in shares of steps.
FIRST_INTERVAL: Final = 0.22
SHORTER_BY: Final = 0.03
SHORTEST_INTERVAL: Final = 0.06

# A step that lets the loss rise in no more than this share of an interval's moves is too long.
RISING_SHARE: Final = 0.75


class APGD(StepAttack):
    """Steps with momentum up each image's own loss, halved where they lead nowhere, from random starts on the surface.

    At a checkpoint an image's step is halved, and the image goes back to its best point, where the loss has not risen
    often enough since the last checkpoint, or where its best value has not risen and the step was not halved then.

    Cross entropy is climbed and compared as log odds: the same order and directions, without the underflow that makes
    all losses of a confident model equal.

    Args:
        loss: What is climbed: cross entropy (``ce``) or the difference of logits ratio (``dlr``).
        target: Away from the true class, or towards the ``likeliest`` wrong classes, one run each.
        steps: Gradient steps of each run, at least 1.
        restarts: Random starts, at least 1; of each class that is gone towards.
        targets: How many classes, at least 1; no more than there are wrong ones.

    Source:
        Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", algorithm 1, as the authors' code rounds it; but the first checkpoint counts the first move by the
        loss at the start, as the paper has it, where their code compares with 0.
    """

    def __init__(
        self,
        loss: AttackLoss = "ce",
        target: AttackTarget = "untargeted",
        steps: int = 100,
        restarts: int = 1,
        targets: int = 9,
    ) -> None:
        super().__init__(steps, restarts)
        self.loss = loss
        self.target = target
        self.targets = targets
        self.scale_free = self.unit_free = loss == "dlr"
        ends = checkpoints(steps)
        self._intervals = {end: end - begin for begin, end in pairwise([0, *ends])}

    def rounds(self, batch: Batch) -> int:
        """One for each restart and target."""
        return self.restarts * self._targets(batch)

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        """Points at the radius in a random direction."""
        if self.target == "likeliest":
            targets = likeliest(batch.clean_logits, batch.labels, self._targets(batch))
            batch.memory["target"] = targets[:, restart // self.restarts]
        clean, count = batch.clean, len(batch)
        batch.memory |= {
            "moves": torch.zeros_like(batch.labels),
            "length": clean.new_full((count,), FIRST_STEP * batch.radius),
            "before": clean,
            "loss": clean.new_full((count,), torch.inf),
            "rises": torch.zeros_like(batch.labels),
            "best": clean,
            "best_gradient": torch.zeros_like(clean),
            "best_loss": clean.new_full((count,), -torch.inf),
            "best_loss_then": clean.new_full((count,), -torch.inf),
            "halved": torch.ones_like(batch.labels, dtype=torch.bool),
        }
        change = noise(batch, rng)
        return clean + batch.radius * change / batch.ball.size(change)

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """One move."""
        memory, project = batch.memory, batch.ball.project
        losses = objective(self.loss, logits, batch.labels, memory.get("target"))
        # Summed, never averaged: an image's gradient must not depend on how many images are in the batch.
        (gradient,) = torch.autograd.grad(losses.sum(), batch.images)
        images = batch.images.detach()
        _remember(memory, images, gradient, losses.detach())
        moves = int(memory["moves"][0])  # every image of a batch has made as many
        if moves in self._intervals:
            halve = _halve(memory, self._intervals[moves])
            images = torch.where(_wide(halve), memory["best"], images)
            gradient = torch.where(_wide(halve), memory["best_gradient"], gradient)
        step = _wide(memory["length"]) * batch.ball.steepest(gradient)
        stepped = project(images + step, batch.clean)
        share = STEP_SHARE if moves else 1.0
        moved = images + share * (stepped - images) + (1 - share) * (images - memory["before"])
        memory |= {"moves": memory["moves"] + 1, "before": images}
        return moved

    def _targets(self, batch: Batch) -> int:
        if self.target == "untargeted":
            return 1
        return min(self.targets, batch.clean_logits.shape[1] - 1)


def checkpoints(steps: int) -> list[int]:
    """After how many of ``steps`` moves step lengths are looked at, ascending."""
    interval, shorter, shortest = (
        max(int(share * steps), 1) for share in (FIRST_INTERVAL, SHORTER_BY, SHORTEST_INTERVAL)
    )
    ends = [interval]
    while ends[-1] < steps:
        interval = max(interval - shorter, shortest)
        ends.append(ends[-1] + interval)
    return [end for end in ends if end <= steps]


def _remember(memory: dict[str, Tensor], images: Tensor, gradient: Tensor, loss: Tensor) -> None:
    """Take note of where images are, of their gradients (b, c, h, w) and losses (b,)."""
    better = loss > memory["best_loss"]
    memory |= {
        "best": torch.where(_wide(better), images, memory["best"]),
        "best_gradient": torch.where(_wide(better), gradient, memory["best_gradient"]),
        "best_loss": torch.where(better, loss, memory["best_loss"]),
        "rises": memory["rises"] + (loss > memory["loss"]),
        "loss": loss,
    }


def _halve(memory: dict[str, Tensor], interval: int) -> Tensor:
    """Halve the steps that an interval of so many moves has shown to be too long; which ones, bool (b,)."""
    oscillating = memory["rises"] <= RISING_SHARE * interval
    stuck = ~memory["halved"] & (memory["best_loss"] <= memory["best_loss_then"])
    halve = oscillating | stuck
    memory |= {
        "length": torch.where(halve, memory["length"] / 2, memory["length"]),
        "halved": halve,
        "best_loss_then": memory["best_loss"],
        "rises": torch.zeros_like(memory["rises"]),
    }
    return halve


def _wide(values: Tensor) -> Tensor:
    """Values of images, (b,), as (b, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
