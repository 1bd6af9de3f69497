"""All that the trials of a search share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trainables.settings.checks import check_choice
from trainables.settings.data import DataSettings
from trainables.settings.robustness import RobustnessSettings
from trainables.settings.training import TrainSettings

ModelName = Literal["lenet5", "cnn8", "resnet32"]


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """After which epochs a setting is compared with others, and the cheap estimate of its robustness there.

    Args:
        epochs: Ascending.
        robustness: How the estimate is measured.
    """

    epochs: tuple[int, ...]
    robustness: RobustnessSettings


@dataclass(frozen=True, kw_only=True)
class Problem:
    """All that two settings must share for their numbers to be comparable."""

    data: DataSettings
    model: ModelName
    train: TrainSettings
    robustness: RobustnessSettings

    def __post_init__(self) -> None:
        check_choice("model", self.model, get_args(ModelName))
        if self.robustness.images > self.data.validation_size:
            raise ValueError(
                f"robustness.images must be at most data.validation_size ({self.data.validation_size}), "
                f"got {self.robustness.images}; attack fewer images or validate on more"
            )
