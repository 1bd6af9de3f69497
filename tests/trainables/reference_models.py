"""Trained networks on real images, on which attacks are compared with those of other libraries."""

from __future__ import annotations

from functools import cache
from typing import Literal

import pytest
from torch import nn

from trainables.data import DataMissing
from trainables.data.splits import Split, load_splits
from trainables.losses.cross_entropy import CrossEntropy
from trainables.losses.i_sce import ISCE
from trainables.models.lenet5 import LeNet5
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings
from trainables.training.loop import train
from trainables.training.replicate import make_replicates

LOSSES = {"sce": CrossEntropy(), "i-sce": ISCE(s=1.0, m=0.1)}


@cache
def reference_model(
    data: Literal["mnist5k", "fashion-mnist"], loss: Literal["sce", "i-sce"], seed: int = 0
) -> tuple[nn.Module, Split]:
    """LeNet-5, trained as in the quickstart on 3,500 images, and 1,000 others; do not change it.

    Skips the test where the images are not on this machine.
    """
    problem = Problem(
        data=DataSettings.from_document({"name": data, "train_size": 3500, "validation_size": 1000}),
        model=LeNet5(),
        loss=LOSSES[loss],
        train=TrainSettings(epochs=8, batch_size=64, learning_rate=0.008, schedule="cosine", seed=seed),
        robustness=RobustnessSettings(images=1000),
    )
    try:
        splits = load_splits(problem.data, "cpu")
    except DataMissing as missing:
        pytest.skip(str(missing))
    [replicate] = make_replicates(problem, splits)
    for _ in train([replicate], splits, problem):
        pass
    return replicate.model.eval(), splits["validation"]
