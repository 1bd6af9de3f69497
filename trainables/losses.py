"""The I-SCE loss and its baselines.

Every loss takes logits of shape (..., n, k) with any number of leading model axes and returns its mean over the n
samples, so that models of one architecture (replicates, or settings that differ in s and m) can go through one pass.

Reference: H. Song, W. Wang, T. He, X. Zhou, "I-SCE", Mathematics 2022, 10, 3716.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import torch
from torch import Tensor

from trainables.candidate import Candidate

LossFunction = Callable[[Tensor, Tensor], Tensor]

# Keeps the gradient of the norm finite at z = 0, where that of F.normalize explodes.
SQUARED_NORM_FLOOR: Final = 1e-12


def _at_least_single(z: Tensor) -> Tensor:
    """fp32 from autocast's half precision (bf16 is too coarse for m); float64 stays for numerical checks."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def normalize_logits(z: Tensor) -> Tensor:
    """Logits of unit L2 norm, f = z / sqrt(sum z^2 + 1e-12).

    Args:
        z: Raw logits, shape (..., k).

    Returns:
        f in fp32 (float64 for float64), shape (..., k); 0 where z is 0.

    Source:
        Song et al. 2022, Eq. 2. The norm is that of each sample's logit vector: only then do the paper's figures hold.
    """
    z = _at_least_single(z)
    return z * (z.square().sum(-1, keepdim=True) + SQUARED_NORM_FLOOR).rsqrt()


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Softmax cross entropy (the paper's SCE).

    Args:
        z: Logits, shape (..., n, k).
        y: Labels in [0, k), shape (..., n).

    Returns:
        The mean over the samples in nats, shape (...).

    Source:
        Song et al. 2022, Eq. 1.
    """
    log_p = _at_least_single(z).log_softmax(-1)
    return -log_p.gather(-1, y.unsqueeze(-1)).squeeze(-1).mean(-1)


def i_sce(z: Tensor, y: Tensor, s: float | Tensor, m: float | Tensor) -> Tensor:
    """Improved softmax cross entropy: that of the normalised logits, the true one scaled by s and raised by m.

    Args:
        z: Raw logits, shape (..., n, k).
        y: Labels in [0, k), shape (..., n).
        s: Scale of the true class's logit, in [1, 2]; a number, or one entry a model, shape (...).
        m: Added to the true class's logit, in [0, 0.1]; a number, or one entry a model, shape (...).

    Returns:
        The mean over the samples in nats, shape (...).

    Source:
        Song et al. 2022, Eq. 2-4. With s = 1 and m = 0 it is cross entropy on the normalised logits.
    """
    f = normalize_logits(z)
    index = y.unsqueeze(-1)
    true = f.gather(-1, index)
    return cross_entropy(f.scatter(-1, index, _per_sample(s) * true + _per_sample(m)), y)


def inference_logits(f: Tensor, s: float | Tensor, m: float | Tensor) -> Tensor:
    """The logits whose softmax the paper reports at inference, u = f + onehot(argmax f) ((s - 1) f + m).

    Use them for probabilities and decide by argmax f: the paper says that the rule never changes the decision, which
    is false where (s - 1) max f + m < 0. With f proportional to (-.5, -.55, -.6), s = 2 and m = .1 the decision flips
    from the first class to the second.

    Args:
        f: Normalised logits, shape (..., n, k).
        s: Scale, in [1, 2]; a number, or one entry a model, shape (...).
        m: Margin, in [0, 0.1]; a number, or one entry a model, shape (...).

    Returns:
        u, shape (..., n, k).

    Source:
        Song et al. 2022, end of section 3.2.
    """
    top, index = f.max(-1, keepdim=True)
    return f.scatter(-1, index, _per_sample(s) * top + _per_sample(m))


def loss_function(setting: Candidate) -> LossFunction:
    """The loss of a setting as a function of raw logits (..., n, k) and labels (..., n)."""
    if setting.loss == "cross-entropy":
        return cross_entropy
    return partial(i_sce, s=setting.parameters["s"], m=setting.parameters["m"])


def _per_sample(value: float | Tensor) -> float | Tensor:
    """A model's parameter of shape (...) as (..., 1, 1), to meet one logit of each sample."""
    return value[..., None, None] if isinstance(value, Tensor) else value
