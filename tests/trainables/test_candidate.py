from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.candidate import Candidate, baseline_at, baselines_of, candidate_of, parameters_of, resolve
from trainables.defences.adversarial_training import AdversarialTraining
from trainables.defences.none import NoDefence
from trainables.losses.cross_entropy import CrossEntropy
from trainables.losses.i_sce import ISCE
from trainables.models.lenet5 import LeNet5
from trainables.optimizers.sgd import SGD
from trainables.registry import make
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings
from trainables.settings.space import Range

PROBLEM = Problem(
    data=DataSettings(),
    model=LeNet5(),
    loss=ISCE(s=1.2, m=0.03),
    defence=AdversarialTraining(norm="l2"),
    train=TrainSettings(optimizer=SGD()),
    robustness=RobustnessSettings(),
)


def test_every_value_finds_its_component() -> None:
    values = {
        "m": 0.05,
        "defence.epsilon": 1.5,
        "model.width": 2,
        "train.learning_rate": 0.1,
        "train.batch_size": 32,
        "train.optimizer.weight_decay": 5e-4,
    }
    problem = resolve(PROBLEM, candidate_of(PROBLEM, values))
    assert problem.loss == ISCE(s=1.2, m=0.05)
    assert problem.defence == AdversarialTraining(norm="l2", epsilon=1.5)
    assert problem.model == LeNet5(width=2)
    assert problem.train == TrainSettings(learning_rate=0.1, batch_size=32, optimizer=SGD(weight_decay=5e-4))
    assert (problem.data, problem.robustness) == (PROBLEM.data, PROBLEM.robustness)
    assert resolve(PROBLEM, candidate_of(PROBLEM, {})) == PROBLEM


@given(s=st.floats(0.5, 2.5), m=st.floats(-0.05, 0.15))
def test_i_sce_is_legal_within_the_papers_ranges_and_nowhere_else(s: float, m: float) -> None:
    candidate = Candidate("i-sce", {"s": s, "m": m})
    if 1.0 <= s <= 2.0 and 0.0 <= m <= 0.1:
        assert resolve(PROBLEM, candidate).loss == ISCE(s=s, m=m)
    else:
        with pytest.raises(ValueError, match=r"^[sm] must be in \["):
            resolve(PROBLEM, candidate)


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (Candidate("isce", {}), r"loss\.name must be one of .*did you mean i-sce"),
        (Candidate("i-sce", {}, "nine"), r"defence\.name must be one of .*did you mean none"),
        (Candidate("i-sce", {"q": 1.0}), r"q must be a parameter of the loss i-sce \(s, m\), got 1.0"),
        (Candidate("cross-entropy", {"s": 1.0}), r"s must be a parameter of the loss cross-entropy \(it has none\)"),
        (Candidate("i-sce", {"model.widht": 2}), r"model\.widht must be .*did you mean model\.width"),
        (Candidate("i-sce", {"model.width": 0}), r"model\.width must be a whole number in \[1, 16\], got 0"),
        (Candidate("i-sce", {"model.width": 1.5}), r"model\.width must be a whole number, got 1.5"),
        (Candidate("i-sce", {"train.learning_rate": 0.0}), r"train\.learning_rate must be above 0"),
        (Candidate("i-sce", {"train.batch_size": 1.5}), r"train\.batch_size must be a whole number, got 1.5"),
        (Candidate("i-sce", {"train.seed": 3}), r"train\.seed must be a parameter of the problem"),
        (Candidate("i-sce", {"train.epochs": 3}), r"train\.epochs must be a parameter of the problem"),
        (Candidate("i-sce", {"data.seed": 3}), r"data\.seed must be a parameter of the problem"),
        (Candidate("i-sce", {"defence.epsilon": 1.0}), r"defence\.epsilon must be a parameter of the problem"),
        (Candidate("i-sce", {"train.optimizer.momentum": 3.0}), r"train\.optimizer\.momentum must be in \[0, 1\]"),
    ],
)
def test_a_wrong_candidate_is_refused_by_the_path(candidate: Candidate, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        resolve(PROBLEM, candidate)


def test_the_parameters_are_listed_with_their_domains() -> None:
    parameters = parameters_of(PROBLEM)
    assert list(parameters)[:2] == ["s", "m"]
    assert parameters["m"] == Range(low=0, high=0.1, low_exclusive=True)
    assert parameters["model.width"] == Range(low=1, high=16, integer=True)
    assert parameters["train.learning_rate"] is None
    assert {"defence.epsilon", "train.batch_size", "train.optimizer.momentum"} <= parameters.keys()
    assert not {"train.seed", "train.epochs", "train.replicates", "train.optimizer"} & parameters.keys()


def test_baselines_switch_off_the_loss_alone() -> None:
    plain, normalised = (resolve(PROBLEM, baseline) for baseline in baselines_of(PROBLEM))
    assert plain == dataclasses.replace(PROBLEM, loss=CrossEntropy())
    assert normalised == dataclasses.replace(PROBLEM, loss=ISCE(s=1.0, m=0.0))


def test_a_baseline_meets_a_tuned_candidate_at_its_values() -> None:
    values: dict[str, Any] = {"m": 0.05, "defence.epsilon": 1.5, "train.learning_rate": 0.1}
    candidate = candidate_of(PROBLEM, values)
    tuned = resolve(PROBLEM, candidate)
    plain, normalised = (resolve(PROBLEM, baseline_at(each, candidate)) for each in baselines_of(PROBLEM))
    assert plain == dataclasses.replace(tuned, loss=CrossEntropy())
    assert normalised == dataclasses.replace(tuned, loss=ISCE(s=1.0, m=0.0))


def test_the_baseline_of_a_defence_alone_is_the_problem_without_it() -> None:
    problem = dataclasses.replace(PROBLEM, loss=CrossEntropy())
    candidate = candidate_of(problem, {"defence.epsilon": 0.5, "train.learning_rate": 0.1})
    (plain,) = baselines_of(problem)
    assert resolve(problem, plain) == dataclasses.replace(problem, defence=NoDefence())
    undefended = dataclasses.replace(resolve(problem, candidate), defence=NoDefence())
    assert resolve(problem, baseline_at(plain, candidate)) == undefended


def test_another_defence_starts_from_its_own_defaults() -> None:
    assert resolve(PROBLEM, Candidate("i-sce")).defence == NoDefence()
    assert resolve(PROBLEM, Candidate("i-sce", {}, "adversarial-training")).defence == PROBLEM.defence


def test_parameters_of_the_users_own_components() -> None:
    path = "tests.trainables.plugins:focal"
    problem = dataclasses.replace(
        PROBLEM,
        loss=make("loss", path),
        model=make("model", "torchvision.models:resnet18"),
    )
    assert next(iter(parameters_of(problem))) == "gamma"
    resolved = resolve(problem, Candidate(path, {"gamma": 1.0, "model.zero_init_residual": True}))
    assert resolved.loss.settings == {"gamma": 1.0}
    assert resolved.model.settings == {"embedding": None, "zero_init_residual": True}
    with pytest.raises(ValueError, match=r"^gama must be a parameter of the loss"):
        resolve(problem, Candidate(path, {"gama": 1.0}))


def test_a_candidate_is_shown_in_one_line() -> None:
    assert str(Candidate("cross-entropy", {})) == "cross-entropy"
    assert str(Candidate("i-sce", {"s": 1.23456, "model.width": 2})) == "i-sce(s=1.235, model.width=2)"
    assert str(Candidate("i-sce", {}, "adversarial-training")) == "i-sce + adversarial-training"
