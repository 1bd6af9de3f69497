"""What the trials of a search share."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainables.defences import Defence
from trainables.defences.none import NoDefence
from trainables.losses import Loss
from trainables.models import Model
from trainables.settings.data import DataSettings
from trainables.settings.robustness import RobustnessSettings
from trainables.settings.training import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """After which epochs a candidate is compared with others, and the cheap estimate of its robustness there.

    Args:
        epochs: Ascending.
        robustness: How the estimate is measured.
    """

    epochs: tuple[int, ...]
    robustness: RobustnessSettings


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a training and its evaluation depend on.

    A search varies some of it (`trainables.candidate`). Everything else must be the same for two candidates if their
    numbers are to be comparable.
    """

    data: DataSettings
    model: Model
    loss: Loss
    train: TrainSettings
    robustness: RobustnessSettings
    defence: Defence = field(default_factory=NoDefence)

    def __post_init__(self) -> None:
        if self.robustness.images > self.data.validation_size:
            raise ValueError(
                f"robustness.images must be at most data.validation_size ({self.data.validation_size}), "
                f"got {self.robustness.images}; attack fewer images or validate on more"
            )
