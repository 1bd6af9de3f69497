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
    """Cross entropy of the normalised logits, with the true class's logit scaled by s and raised by m.

    Args:
        s: Scale of the true class's logit.
        m: Margin added to it. The baseline with m = 0 is legal, but no search tries it.
    """

    # Song et al. 2022, section 4.1: s in [1, 2], m in (0, 0.1]; their own experiments have s = 1, m = 0.1.
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
    """Inference-softmax cross entropy.

    Args:
        z: Raw logits, shape (..., n, k); leading axes number models that go through one pass.
        y: Labels in [0, k), shape (..., n).
        s: Scale of the true class's logit, in [1, 2]; a number, or one entry per model, shape (...).
        m: Added to the true class's logit, in [0, 0.1]; a number, or one entry per model, shape (...).

    Returns:
        The mean over the samples in nats, shape (...).

    Source:
        Song et al. 2022, Eq. 2-4. With s = 1 and m = 0 it is cross entropy of the normalised logits.
    """
    f = normalize_logits(z)
    index = y.unsqueeze(-1)
    true = f.gather(-1, index)
    return cross_entropy(f.scatter(-1, index, _per_sample(s) * true + _per_sample(m)), y)


def inference_logits(f: Tensor, s: float | Tensor, m: float | Tensor) -> Tensor:
    """The logits whose softmax the paper reports at inference, u = f + onehot(argmax f) ((s - 1) f + m).

    Use them for probabilities, and decide by argmax f. The paper says that the rule never changes the decision. That is
    false if (s - 1) max f + m < 0: with f proportional to (-.5, -.55, -.6), s = 2 and m = .1 the decision changes from
    the first class to the second.

    Args:
        f: Normalised logits, shape (..., n, k).
        s: Scale, in [1, 2]; a number, or one entry per model, shape (...).
        m: Margin, in [0, 0.1]; a number, or one entry per model, shape (...).

    Returns:
        u, shape (..., n, k).

    Source:
        Song et al. 2022, end of section 3.2.
    """
    top, index = f.max(-1, keepdim=True)
    return f.scatter(-1, index, _per_sample(s) * top + _per_sample(m))


def _per_sample(value: float | Tensor) -> float | Tensor:
    """A parameter of shape (...) as (..., 1, 1), so that it meets one logit of each sample."""
    return value if isinstance(value, (int, float)) else value[..., None, None]
