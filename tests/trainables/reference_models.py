"""Trained networks on real images, on which attacks are compared with those of other libraries."""

from __future__ import annotations

from functools import cache
from typing import Literal

import pytest
from torch import nn

from trainables.candidate import Candidate
from trainables.data import DataMissing
from trainables.data.splits import Split, load_splits
from trainables.losses import loss_function
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings
from trainables.training.loop import make_replicates, train

SETTINGS = {"sce": Candidate("cross-entropy", {}), "i-sce": Candidate("i-sce", {"s": 1.0, "m": 0.1})}


@cache
def reference_model(
    data: Literal["mnist5k", "fashion-mnist"], loss: Literal["sce", "i-sce"], seed: int = 0
) -> tuple[nn.Module, Split]:
    """LeNet-5, trained as in the quickstart on 3,500 images, and 1,000 others; do not change it.

    Skips the test where the images are not on this machine.
    """
    problem = Problem(
        data=DataSettings.from_document({"name": data, "train_size": 3500, "validation_size": 1000}),
        model="lenet5",
        train=TrainSettings(epochs=8, batch_size=64, learning_rate=0.008, schedule="cosine", seed=seed),
        robustness=RobustnessSettings(images=1000),
    )
    try:
        splits = load_splits(problem.data, "cpu")
    except DataMissing as missing:
        pytest.skip(str(missing))
    [replicate] = make_replicates(problem, splits)
    for _ in train([replicate], loss_function(SETTINGS[loss]), splits, problem.train):
        pass
    return replicate.model.eval(), splits["validation"]
