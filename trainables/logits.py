"""What losses and attacks do to logits first. It uses tensor methods alone, so that importing it costs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

# Keeps the gradient of the norm finite at z = 0, where that of F.normalize explodes.
SQUARED_NORM_FLOOR: Final = 1e-12


def at_least_single(values: Tensor) -> Tensor:
    """Half precision (autocast's) as fp32, because bf16 is too coarse for a margin; fp32 and float64 unchanged."""
    return values.float() if values.dtype.itemsize < 4 else values


def normalize_logits(z: Tensor) -> Tensor:
    """Logits of unit L2 norm, f = z / sqrt(sum z^2 + 1e-12), (..., k): in fp32 (float64 for float64), 0 where z is 0.

    Source:
        Song et al. 2022, section 3.2. The norm is that of a sample's logit vector: the paper's figures hold only then.
    """
    z = at_least_single(z)
    return z * (z.square().sum(-1, keepdim=True) + SQUARED_NORM_FLOOR).rsqrt()
