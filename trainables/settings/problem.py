"""What the trials of a search share: data, model, loss, training and attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from trainables.defences import Defence
from trainables.defences.none import NoDefence
from trainables.losses import Loss
from trainables.models import Model
from trainables.optimizers import Optimizer
from trainables.optimizers.adam import Adam
from trainables.registry import check_fields
from trainables.settings.checks import check_counts, check_seed
from trainables.settings.data import DataSettings
from trainables.settings.robustness import RobustnessSettings


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a candidate is trained.

    Args:
        epochs: Passes over the training split.
        batch_size: Images per step.
        optimizer: The optimizer; Song et al. 2022 use Adam.
        learning_rate: Its initial step size.
        schedule: ``constant``; ``cosine`` to zero over the epochs; ``step``: a tenth at 50 % and again at 75 % of them.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16`` with the loss in fp32.
        seed: Replicate r of every candidate and baseline uses the seed derived from (seed, r).
        replicates: Number of seeds that each candidate is trained with; objectives are their means.
    """

    epochs: int = 15
    batch_size: int = 128
    optimizer: Optimizer = field(default_factory=Adam)
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine", "step"] = "constant"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = 0
    replicates: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate:g}; 0.001 is usual for Adam")
        check_fields(self)
        check_counts(self, "epochs", "batch_size", "replicates")
        check_seed(self.seed)


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
