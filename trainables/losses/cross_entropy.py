"""Softmax cross entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.logits import at_least_single
from trainables.losses import Loss
from trainables.registry import register

if TYPE_CHECKING:
    from torch import Tensor


@register("cross-entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Loss):
    """Softmax cross entropy of the logits."""

    source: ClassVar[str] = "Bishop 2006, Pattern Recognition and Machine Learning, Eq. 4.108"

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        del features
        return cross_entropy(logits, labels)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Softmax cross entropy of logits (n, k) and labels (n,) in [0, k): the mean over the samples in nats.

    Source:
        Minus the logarithm of Song et al. 2022, Eq. 1.
    """
    log_p = at_least_single(z).log_softmax(-1)
    return -log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1).mean(-1)
