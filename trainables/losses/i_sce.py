"""Inference-softmax cross entropy (I-SCE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.logits import normalize_logits
from trainables.losses import Baseline, Loss
from trainables.losses.cross_entropy import cross_entropy
from trainables.registry import register
from trainables.settings.space import Range, searched

if TYPE_CHECKING:
    from torch import Tensor


@register("i-sce")
@dataclass(frozen=True, kw_only=True)
class ISCE(Loss):
    """Cross entropy of the normalised logits, with the true class's logit scaled by s and raised by m."""

    # Song et al. 2022, section 4.1: s in [1, 2], m in (0, 0.1]; their own experiments have s = 1, m = 0.1. The baseline
    # with m = 0 is legal, but no search tries it.
    s: float = searched(1.0, Range(low=1, high=2))
    m: float = searched(0.1, Range(low=0, high=0.1, low_exclusive=True))

    source: ClassVar[str] = (
        'Song, Wang, He and Zhou 2022, "Robustness Learning via Inference-Softmax Cross Entropy in Misaligned '
        'Distribution of Image", Mathematics 10, 3716'
    )
    # Without these two nobody can say whether (s, m) did anything.
    baselines: ClassVar[tuple[Baseline, ...]] = (
        Baseline("cross-entropy", {}, "plain cross entropy"),
        Baseline("i-sce", {"s": 1.0, "m": 0.0}, "normalised logits without scale and margin"),
    )

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        del features
        return i_sce(logits, labels, self.s, self.m)


def i_sce(z: Tensor, y: Tensor, s: float | Tensor, m: float | Tensor) -> Tensor:
    """Inference-softmax cross entropy of raw logits (n, k) and labels (n,): the mean over the samples in nats.

    With s = 1 and m = 0 it is cross entropy of the normalised logits.

    Source:
        Song et al. 2022, Eq. 2-4.
    """
    f = normalize_logits(z)
    index = y.unsqueeze(-1)
    return cross_entropy(f.scatter(-1, index, s * f.gather(-1, index) + m), y)
