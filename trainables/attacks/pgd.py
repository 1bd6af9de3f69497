"""Projected gradient descent."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.attacks.base import Batch, StepAttack
from trainables.settings import AttackLoss, AttackTarget

# The usual step: steps times it is 2.5 radii, enough to cross the ball and come back along its surface.
RELATIVE_STEP: Final = 2.5

# How far the first start may lie from the clean image, in radii. A point drawn uniformly from a ball in hundreds of
# dimensions lies on its surface, and the steps that lead back from there are lost: in the worst case of 50 steps within
# 1.5 it left 118 of 300 images of one LeNet-5 trained with I-SCE standing against 105, and 124 against 121 with SCE.
# Later starts reach over the whole radius to find other ways.
FIRST_START: Final = 0.2

# Keeps DLR finite where the top three or four logits are equal.
DLR_FLOOR: Final = 1e-12


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
        draw = random_starts if batch.ball.norm == "l2" else uniform_starts
        draws = draw(int(batch.index.max()) + 1, batch.clean[0].numel(), rng)
        noise = torch.from_numpy(draws).to(batch.clean.device)[batch.index].view_as(batch.clean)
        return batch.clean + (batch.radius if restart else FIRST_START * batch.radius) * noise

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """One step up the loss."""
        # Summed, never averaged: an image's gradient must not depend on how many images are in the batch.
        objective = self._objective(logits, batch).sum()
        (gradient,) = torch.autograd.grad(objective, batch.images)
        return batch.images.detach() + RELATIVE_STEP * batch.radius / self.steps * batch.ball.steepest(gradient)

    def _objective(self, logits: Tensor, batch: Batch) -> Tensor:
        """What each image climbs, (b,)."""
        if self.target == "untargeted":
            return log_odds_against(logits, batch.labels) if self.loss == "ce" else dlr(logits, batch.labels)
        targets = batch.clean_logits.argmin(1)
        return -log_odds_against(logits, targets) if self.loss == "ce" else targeted_dlr(logits, batch.labels, targets)


def log_odds_against(logits: Tensor, classes: Tensor) -> Tensor:
    """log((1 - p) / p) for the softmax probability p of one class: cross entropy for attacks that normalise gradients.

    Cross entropy is softplus of it, so both have the same gradient but for a positive factor, 1 - p. That factor is
    what underflows on confident models and blinds attacks that climb cross entropy itself.

    Args:
        logits: (b, k).
        classes: (b,).
    """
    chosen = classes.unsqueeze(1)
    others = logits.scatter(1, chosen, -torch.inf)
    return others.logsumexp(1) - logits.gather(1, chosen).squeeze(1)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio: positive where misclassified, the same at any positive scale of the logits.

    Args:
        logits: (b, k), k at least 3.
        labels: True labels, (b,).

    Source:
        Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
        attacks", Eq. 6.
    """
    _check_classes(logits, 3, "dlr")
    top = logits.topk(3).values
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    other = torch.where(logits.argmax(1) == labels, top[:, 1], top[:, 0])
    return (other - true) / (top[:, 0] - top[:, 2] + DLR_FLOOR)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted difference of logits ratio: positive where the target's logit is above the true one's.

    Args:
        logits: (b, k), k at least 4.
        labels: True labels, (b,).
        targets: Target labels, (b,).

    Source:
        Croce and Hein 2020, Eq. 7.
    """
    _check_classes(logits, 4, "dlr towards a target")
    top = logits.topk(4).values
    true = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    wanted = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (wanted - true) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + DLR_FLOOR)


def random_starts(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points of uniform direction and of a length uniform in [0, 1], fp32 (count, dimensions).

    The first rows are the same for any count.
    """
    length = rng.spawn(1)[0].random((count, 1), dtype=np.float32)
    direction = rng.standard_normal((count, dimensions), dtype=np.float32)
    direction *= length / np.linalg.norm(direction, axis=1, keepdims=True)
    return direction


def uniform_starts(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Points uniform in the cube [-1, 1]^d, fp32 (count, dimensions); the first rows are the same for any count."""
    return rng.random((count, dimensions), dtype=np.float32) * 2 - 1


def _check_classes(logits: Tensor, least: int, loss: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(
            f"loss must be ce for fewer than {least} classes, got {loss} with {logits.shape[1]}; choose ce"
        )
