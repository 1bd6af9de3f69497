"""What one trial trains: a loss and a value for each of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from trainables.settings.checks import check_choice
from trainables.settings.space import Range, Value

LossName = Literal["i-sce", "cross-entropy"]


@dataclass(frozen=True)
class LossSpec:
    """What a search must know of a loss: nothing outside this module and ``losses`` knows its parameters' names.

    Args:
        parameters: Legal limits of each parameter, in the order of the surfaces' axes.
        reference: The setting that the loss's authors use; a search always tries it first.
    """

    parameters: Mapping[str, Range]
    reference: Mapping[str, float]


LOSSES: Final[Mapping[LossName, LossSpec]] = {
    "cross-entropy": LossSpec({}, {}),
    # Song et al. 2022, section 4.1: s in [1, 2], m in (0, 0.1]; they fix s = 1, m = 0.1 for their own experiments.
    "i-sce": LossSpec(
        parameters={"s": Range(low=1.0, high=2.0), "m": Range(low=0.0, high=0.1, low_exclusive=True)},
        reference={"s": 1.0, "m": 0.1},
    ),
}


@dataclass(frozen=True)
class Candidate:
    """A loss and a value for each of its parameters: what one trial trains.

    Raises:
        ValueError: A parameter is missing, unknown or outside its limits (a closed lower end is allowed here).
    """

    loss: LossName
    parameters: Mapping[str, Value]

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, get_args(LossName))
        limits = LOSSES[self.loss].parameters
        for name, value in self.parameters.items():
            if name not in limits:
                raise ValueError(
                    f"{name} must be a parameter of the loss {self.loss} ({', '.join(limits) or 'it has none'}), "
                    f"got {name}={value}; remove it"
                )
            low, high = limits[name].low, limits[name].high
            if not low <= value <= high:
                raise ValueError(f"{name} must be in [{low:g}, {high:g}], got {value:g}; choose a value in the range")
        for name in limits:
            if name not in self.parameters:
                raise ValueError(f"{name} must be given for the loss {self.loss}, got nothing; add {name}=VALUE")

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value:.4g}" for name, value in self.parameters.items())
        return f"{self.loss}({values})" if values else self.loss


# What every sweep of a loss trains beside its search. For I-SCE: plain cross entropy on z, and on the normalised f;
# without these two nobody can say whether (s, m) did anything.
BASELINES: Final[Mapping[LossName, tuple[Candidate, ...]]] = {
    "i-sce": (Candidate("cross-entropy", {}), Candidate("i-sce", {"s": 1.0, "m": 0.0})),
}
