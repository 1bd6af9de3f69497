"""What the training core's tests share: a problem small enough to train in a second."""

from __future__ import annotations

import pytest
import torch

from trainables.attacks.pgd import PGD
from trainables.data.splits import Split
from trainables.losses.cross_entropy import CrossEntropy
from trainables.models.lenet5 import LeNet5
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings

SMALL_DATA = DataSettings(train_size=200, validation_size=100, seed=3)


@pytest.fixture
def problem() -> Problem:
    """Two replicates of LeNet-5 on 200 digits, weakly attacked."""
    return Problem(
        data=SMALL_DATA,
        model=LeNet5(),
        loss=CrossEntropy(),
        train=TrainSettings(epochs=3, batch_size=64, learning_rate=2e-3, schedule="cosine", replicates=2, seed=5),
        robustness=RobustnessSettings(attacks=(PGD(steps=2),), images=20),
    )


@pytest.fixture
def noise() -> dict[str, Split]:
    """Random colour images in two splits, the training split of no whole number of batches."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: Split(
            torch.rand(n, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last),
            torch.randint(10, (n,), generator=generator),
        )
        for name, n in (("train", 20), ("validation", 12))
    }
