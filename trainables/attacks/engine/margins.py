"""The losses that attacks climb, per image; they rise towards a wrong label."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from trainables.attacks.engine.attack import AttackLoss

# Keeps DLR finite where the top three or four logits are equal.
DLR_FLOOR: Final = 1e-12


def objective(loss: AttackLoss, logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """The loss that each image climbs, (b,).

    Args:
        loss: ``ce``, as log odds, or ``dlr``.
        logits: (b, k).
        labels: True labels, (b,).
        targets: Labels to move towards, (b,); None to move away from the true ones.

    Raises:
        ValueError: DLR of too few classes.
    """
    if targets is None:
        return log_odds_against(logits, labels) if loss == "ce" else dlr(logits, labels)
    return -log_odds_against(logits, targets) if loss == "ce" else targeted_dlr(logits, labels, targets)


def log_odds_against(logits: Tensor, classes: Tensor) -> Tensor:
    """log((1 - p) / p) for the softmax probability p of one class: cross entropy for attacks that normalise gradients.

    Cross entropy is softplus of it, so both have the same gradient up to a positive factor, 1 - p. That factor
    underflows on confident models and blinds attacks that climb cross entropy itself.

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
    target = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
    return (target - true) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + DLR_FLOOR)


def likeliest(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The wrong classes with the largest logits, the likeliest first, (b, count).

    Args:
        logits: (b, k).
        labels: True labels, (b,).
        count: At most k - 1.
    """
    return logits.scatter(1, labels.unsqueeze(1), -torch.inf).topk(count).indices


def _check_classes(logits: Tensor, least: int, loss: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(
            f"loss must be ce for fewer than {least} classes, got {loss} with {logits.shape[1]}; choose ce"
        )
