"""The words for a threat model: the ball that an attack stays in, and the logits that it sees."""

from __future__ import annotations

from typing import Literal

Norm = Literal["l2", "linf"]
View = Literal["normalized", "raw", "rescaled"]
