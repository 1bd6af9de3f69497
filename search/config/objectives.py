"""Objectives and constraints: which numbers of a trial can be one, and which way each is better."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, Self

from trainables import metrics
from trainables.metrics import Direction
from trainables.settings import RobustnessSettings

ACCURACIES: Final = (metrics.CLEAN, metrics.ROBUST)  # the objectives unless a configuration names others

_CONSTRAINT: Final = re.compile(r"\s*(>=|<=)\s*(\S+)\s*")
_DIGITS: Final = 12  # a mean that misses its bound by a rounding error meets it


def directions(robustness: RobustnessSettings) -> dict[str, Direction]:
    """Every number that can be an objective under these attacks, with its direction.

    Wall times are those of one machine on one day: a search for them cannot be repeated to the same suggestions.
    """
    further = [metrics.at_radius(epsilon) for epsilon in robustness.epsilons[1:]]
    names = [*ACCURACIES, *further, *robustness.accuracy_names, *metrics.COSTS]
    return {name: metrics.direction(name) for name in names}


@dataclass(frozen=True)
class Constraint:
    """A bound that a setting must keep, in the unit of the metric ``name``."""

    name: str
    relation: Literal[">=", "<="]
    bound: float

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """Reads ``>= NUMBER`` or ``<= NUMBER``; a ``ValueError`` says if it is neither, or no bound for the metric."""
        match = _CONSTRAINT.fullmatch(text)
        try:
            bound = float(match[2]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise ValueError(f"{name} must be '>= NUMBER' or '<= NUMBER', got {text!r}; write for example '>= 0.97'")
        if name not in metrics.COSTS and not 0 <= bound <= 1:
            raise ValueError(f"{name} must be bounded in [0, 1], got {text!r}; accuracies are fractions: 97 % is 0.97")
        if name in metrics.COSTS and bound <= 0:
            raise ValueError(f"{name} must be bounded above 0, got {text!r}; give a bound that a trial can have")
        return cls(name, ">=" if match[1] == ">=" else "<=", bound)

    def excess(self, value: float) -> float:
        """By how much ``value`` misses the bound; at most 0 if it keeps it."""
        return round(self.bound - value if self.relation == ">=" else value - self.bound, _DIGITS)

    def __str__(self) -> str:
        return f"{self.name} {self.relation} {self.bound:g}"
