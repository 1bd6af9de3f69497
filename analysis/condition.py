"""The condition of Song, Wang, He and Zhou 2022, section 3.3.2, under which I-SCE's interval exceeds SCE's.

z(s, m) = s e^(s f + m) / (e^(s f + m) + S)^2 - e^f / (e^f + S)^2, where f is the normalised logit of the true class,
and S the sum of e^f over the others. It compares two losses at one fixed f, so it implies nothing about robustness.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

# The constants of the paper's Figure 3.
PAPER_F: Final = 0.97
PAPER_S: Final = 8.0

# The grid for the check: the paper's ranges, s in [1, 2] and m in (0, 0.1]. At s = 1 and m = 0, z is 0.
GRID_S: Final = np.linspace(1.0, 2.0, 11)
GRID_M: Final = np.linspace(0.01, 0.1, 10)


def condition(f: npt.ArrayLike, others: npt.ArrayLike, s: npt.ArrayLike, m: npt.ArrayLike) -> npt.NDArray[Any]:
    """z(s, m), Eq. 13 without its positive factor; the arguments are broadcast against each other.

    Args:
        f: The normalised logit of the true class, in [-1, 1].
        others: The sum of e^f over the other classes, above 0.
        s: The scale, at least 1.
        m: The margin, at least 0.
    """
    f, others, s, m = (np.asarray(each, dtype=np.float64) for each in (f, others, s, m))
    shifted, plain = np.exp(s * f + m), np.exp(f)
    return np.asarray(s * shifted / (shifted + others) ** 2 - plain / (plain + others) ** 2)


def holds_everywhere(
    f: npt.NDArray[Any], others: npt.NDArray[Any], s: npt.NDArray[Any], m: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Whether z > 0 for all pairs of s and m; bool, with the common shape of ``f`` and ``others``."""
    holds = np.ones(np.shape(f), dtype=np.bool_)
    for scale in s:
        for margin in m:
            holds &= condition(f, others, scale, margin) > 0
    return holds
