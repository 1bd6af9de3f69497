"""The epochs after which halving compares trials."""

from __future__ import annotations

import math


def rungs_of(epochs: int, first: int, reduction_factor: float) -> tuple[int, ...]:
    """The epochs after which trials are compared. They are geometric, so that each rung takes about as much work.

    Args:
        epochs: The whole training of a trial, at least 1. Its end is no rung: there is nothing left to save.
        first: The first rung, at least 1.
        reduction_factor: Ratio of a rung to the one before, above 1. A ratio that is not whole gives rounded epochs.

    Returns:
        The rungs, ascending; none where ``first`` is not below ``epochs``.

    Raises:
        ValueError: ``first`` or ``reduction_factor`` is outside its range.

    Source:
        Li et al. 2020, section 3.1: r * eta^k.
    """
    if first < 1:
        raise ValueError(f"first must be at least 1, got {first}; 1 compares trials after their first epoch")
    check_reduction_factor(reduction_factor)
    count = max(0, math.ceil(math.log(epochs / first, reduction_factor))) + 1
    rungs = {round(first * reduction_factor**k) for k in range(count)}
    return tuple(sorted(rung for rung in rungs if rung < epochs))


def check_reduction_factor(reduction_factor: float) -> None:
    """Asserts that a ratio between rungs is legal.

    Raises:
        ValueError: It is not above 1, or not finite.
    """
    if not (math.isfinite(reduction_factor) and reduction_factor > 1):
        raise ValueError(f"reduction_factor must be above 1, got {reduction_factor:g}; 3 is usual")
