"""Cross entropy with smoothed labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.logits import at_least_single
from trainables.losses import Loss
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import Tensor


@register("label-smoothing")
@dataclass(frozen=True, kw_only=True)
class LabelSmoothing(Loss):
    """Cross entropy against labels that give each wrong class epsilon / k and the true one the rest.

    This is torch's form: the true class has 1 - epsilon + epsilon / k. Song et al. 2022 write 1 - epsilon for it, which
    does not add up to 1; that loss is the same up to the factor 1 - epsilon / k for an epsilon slightly larger.
    """

    # The share of the label that is spread over all classes; with 0 it is plain cross entropy.
    epsilon: float = searched(0.1, Range(low=0, high=0.5, low_exclusive=True))

    source: ClassVar[str] = (
        'Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision", section 7'
    )

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        del features
        log_p = at_least_single(logits).log_softmax(-1)
        true = log_p.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return -((1 - self.epsilon) * true + self.epsilon * log_p.mean(-1)).mean(-1)
