"""Projected gradient descent."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from trainables.attacks.base import Batch, StepAttack
from trainables.attacks.margins import objective
from trainables.attacks.starts import noise
from trainables.settings import AttackLoss, AttackTarget

# The usual step: steps times it is 2.5 radii, enough to cross the ball and come back along its surface.
RELATIVE_STEP: Final = 2.5

# How far the first start may lie from the clean image, in radii. A point drawn uniformly from a ball in hundreds of
# dimensions lies on its surface, and the steps that lead back from there are lost: in the worst case of 50 steps within
# 1.5 it left 118 of 300 images of one LeNet-5 trained with I-SCE standing against 105, and 124 against 121 with SCE.
# Later starts reach over the whole radius to find other ways.
FIRST_START: Final = 0.2


class PGD(StepAttack):
    """Steps of constant length 2.5 radius / steps up each image's own loss, from a random start.

    An image whose gradient is zero stays where it is: a random step would find nothing in hundreds of dimensions, and
    the next restart begins elsewhere anyway.

    Args:
        steps: Gradient steps of each restart, at least 1.
        loss: What is climbed: cross entropy (``ce``) or the difference of logits ratio (``dlr``).
        target: Away from the true class, or towards the one with the smallest clean logit. Success is judged alike: the
            predicted label is no longer the true one.
        restarts: Random starts, at least 1.

    Source:
        Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", section 2.1.
    """

    def __init__(
        self, steps: int = 50, loss: AttackLoss = "ce", target: AttackTarget = "untargeted", restarts: int = 1
    ) -> None:
        super().__init__(steps, restarts)
        self.loss = loss
        self.target = target
        self.scale_free = self.unit_free = loss == "dlr"

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        """Points in a random direction: near the clean image at first, later anywhere up to the radius."""
        return batch.clean + (batch.radius if restart else FIRST_START * batch.radius) * noise(batch, rng)

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """One step up the loss."""
        targets = None if self.target == "untargeted" else batch.clean_logits.argmin(1)
        # Summed, never averaged: an image's gradient must not depend on how many images are in the batch.
        loss = objective(self.loss, logits, batch.labels, targets).sum()
        (gradient,) = torch.autograd.grad(loss, batch.images)
        length = RELATIVE_STEP * batch.radius / self.steps
        return torch.add(batch.images.detach(), batch.ball.steepest(gradient), alpha=length)
