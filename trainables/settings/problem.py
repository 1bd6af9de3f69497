"""What the trials of a search share: data, model, loss, training and attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from trainables.defences import Defence
from trainables.defences.none import NoDefence
from trainables.losses import Loss
from trainables.models import Model, build_model
from trainables.optimizers import Optimizer
from trainables.optimizers.adam import Adam
from trainables.registry import check_fields
from trainables.settings.checks import check_seed, count
from trainables.settings.data import DataSettings
from trainables.settings.robustness import RobustnessSettings


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a candidate is trained."""

    epochs: int = count(15)  # passes over the training split
    batch_size: int = count(128)  # images per step
    optimizer: Optimizer = field(default_factory=Adam)  # as in Song et al. 2022
    learning_rate: float = 1e-3  # the initial step size
    # ``cosine`` to zero over the epochs; ``step``: a tenth at 50 % and again at 75 % of them.
    schedule: Literal["constant", "cosine", "step"] = "constant"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of autocast; the loss is always in fp32
    seed: int = 0  # replicate r of every candidate and baseline uses the seed derived from (seed, r)
    replicates: int = count(1)  # seeds that each candidate is trained with; objectives are their means

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate:g}; 0.001 is usual for Adam")
        check_fields(self)
        check_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """After which epochs a candidate is compared with others, and the cheap estimate of its robustness there."""

    epochs: tuple[int, ...]  # ascending
    robustness: RobustnessSettings  # how the estimate is measured


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
        if self.robustness.images > self.data.search_size:
            minus = " minus data.confirmation_size" if self.data.confirmation_size else ""
            raise ValueError(
                f"robustness.images must be at most data.validation_size{minus} ({self.data.search_size}), "
                f"got {self.robustness.images}; attack fewer images or validate on more"
            )

    def check(self, shape: tuple[int, int, int], classes: int) -> None:
        """Checks that model, loss and defence fit images of this shape (channels, height, width) and classes.

        Raises:
            ValueError: One of them does not.
        """
        self.model.check(shape, classes)
        self.loss.check(classes)
        self.defence.check(partial(build_model, self.model, shape, classes), shape)
