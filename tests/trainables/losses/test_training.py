"""Training on real digits with the quickstart's recipe, minutes each."""

from __future__ import annotations

from statistics import fmean

import pytest

from trainables.attacks.pgd import PGD
from trainables.data.splits import load_splits
from trainables.models.lenet5 import LeNet5
from trainables.registry import make, names
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings
from trainables.training.loop import train
from trainables.training.replicate import make_replicates

SEEDS = 3


def accuracy(loss: str) -> float:
    """The mean accuracy of the seeds on 1,000 validation images."""
    problem = Problem(
        data=DataSettings(validation_size=1000, test_size=500, seed=0),
        model=LeNet5(),
        loss=make("loss", loss),
        train=TrainSettings(epochs=6, batch_size=64, learning_rate=0.008, schedule="cosine", replicates=SEEDS),
        robustness=RobustnessSettings(attacks=(PGD(steps=1),), images=1),
    )
    splits = load_splits(problem.data)
    *_, last = train(make_replicates(problem, splits), splits, problem)
    return fmean(last.validation_accuracy)


@pytest.fixture(scope="module")
def plain() -> float:
    return accuracy("cross-entropy")


@pytest.mark.slow
@pytest.mark.parametrize("loss", [name for name in names("loss") if name != "cross-entropy"])
def test_its_reference_setting_comes_within_two_points_of_cross_entropy(loss: str, plain: float) -> None:
    assert plain > 0.96
    assert accuracy(loss) > plain - 0.02
