from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables import trial as setting_module
from trainables.candidate import Candidate
from trainables.data.splits import Split, load_splits
from trainables.registry import make
from trainables.robustness.evaluate import evaluate
from trainables.settings import Problem
from trainables.training.checkpoint import load_trained
from trainables.training.loop import EpochResult
from trainables.training.replicate import ReplicateEpoch, make_replicates, replicate_seeds
from trainables.trial import CandidateResult, run_candidate

SETTING = Candidate("i-sce", {"s": 1.5, "m": 0.05})


def finish(problem: Problem, checkpoints: Path | None = None) -> tuple[list[EpochResult], CandidateResult]:
    *epochs, result = run_candidate(problem, SETTING, checkpoints=checkpoints)
    assert isinstance(result, CandidateResult)
    assert all(isinstance(epoch, EpochResult) for epoch in epochs)
    return epochs, result  # type: ignore[return-value]


def assert_same(one: CandidateResult, other: CandidateResult) -> None:
    assert one.validation_losses == other.validation_losses
    np.testing.assert_array_equal(one.outcomes.clean, other.outcomes.clean)
    np.testing.assert_array_equal(one.outcomes.kept, other.outcomes.kept)


def test_a_setting_is_trained_and_attacked(problem: Problem) -> None:
    epochs, result = finish(problem)
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert result.outcomes.seeds == replicate_seeds(problem.train)
    assert result.outcomes.kept.shape == (2, 1, 2, 1, 20)
    outcomes = result.outcomes
    assert outcomes.clean_accuracy() == pytest.approx(epochs[-1].validation_accuracy)
    assert result.validation_losses == epochs[-1].validation_loss
    attacks = outcomes.attack_accuracy()
    assert attacks.keys() == {"pgd2-ce/normalized", "pgd2-ce/worst"}
    assert all((outcomes.robust_accuracy() <= accuracy).all() for accuracy in attacks.values())
    assert sum(result.train_seconds) == pytest.approx(sum(epoch.seconds for epoch in epochs))
    assert result.attack_seconds > 0
    assert result.train_passes == 3 * 2 * len(load_splits(problem.data)["train"].labels)


def test_a_replicate_is_the_same_whichever_are_trained_beside_it(problem: Problem) -> None:
    *epochs, later = run_candidate(problem, SETTING, replicates=[1, 2])
    three = dataclasses.replace(problem, train=dataclasses.replace(problem.train, replicates=3))
    all_epochs, together = finish(three)
    assert isinstance(later, CandidateResult)
    assert later.validation_losses == together.validation_losses[1:]
    assert later.outcomes.seeds == together.outcomes.seeds[1:]
    np.testing.assert_array_equal(later.outcomes.kept, together.outcomes.kept[1:])
    for epoch, all_three in zip(epochs, all_epochs, strict=True):
        assert isinstance(epoch, EpochResult)
        assert epoch.train_loss == all_three.train_loss[1:]


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_setting_goes_on_to_the_same_result(problem: Problem, tmp_path: Path, stop_after: int) -> None:
    whole_epochs, whole = finish(problem)
    generator = run_candidate(problem, SETTING, checkpoints=tmp_path)
    for _ in range(stop_after):
        next(generator)
    generator.close()
    epochs, resumed = finish(problem, tmp_path)
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3], "the epochs of the checkpoint come again"
    for one, other in zip(epochs[::-1], whole_epochs[::-1], strict=False):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)
    assert_same(resumed, whole)


def test_a_finished_training_is_only_attacked(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = finish(problem, tmp_path)
    monkeypatch.setattr(setting_module, "save", None)
    epochs, again = finish(problem, tmp_path)
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert_same(again, whole)
    assert again.train_seconds == whole.train_seconds


def test_splits_that_are_there_are_not_loaded_again(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = setting_module.load_splits(problem.data)
    _, whole = finish(problem)
    monkeypatch.setattr(setting_module, "load_splits", None)
    *_, result = run_candidate(problem, SETTING, splits=splits)
    assert isinstance(result, CandidateResult)
    assert_same(result, whole)


def three_classes(count: int, seed: int) -> Split:
    """Noisy colour images of three classes, each brighter in one channel."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = 0.5 * torch.rand(count, 3, 32, 32, generator=generator)
    images[torch.arange(count), labels] += 0.4
    return Split(images.contiguous(memory_format=torch.channels_last), labels)


PLUGINS = "tests.trainables.plugins"


@pytest.mark.parametrize(
    ("model", "loss", "defence"),
    [
        ("torchvision.models:resnet18", "i-sce", "none"),
        ("torchvision.models:resnet18", f"{PLUGINS}:Prototypes", "none"),
        (f"{PLUGINS}:Branches", f"{PLUGINS}:Prototypes", "adversarial-training"),
        ("lenet5", f"{PLUGINS}:focal", f"{PLUGINS}:noisy"),
    ],
)
def test_a_users_own_components_are_trained_resumed_and_attacked(
    problem: Problem, tmp_path: Path, model: str, loss: str, defence: str
) -> None:
    problem = dataclasses.replace(
        problem,
        model=make("model", model),
        train=dataclasses.replace(problem.train, epochs=2, batch_size=16, replicates=1),
        robustness=dataclasses.replace(problem.robustness, images=6),
    )
    splits = {"train": three_classes(48, 0), "validation": three_classes(12, 1)}
    parameters = {"defence.steps": 2, "defence.epsilon": 0.05} if defence == "adversarial-training" else {}
    candidate = Candidate(loss, parameters, defence)
    *epochs, whole = run_candidate(problem, candidate, splits=splits)
    generator = run_candidate(problem, candidate, splits=splits, checkpoints=tmp_path)
    next(generator)
    generator.close()
    *_, resumed = run_candidate(problem, candidate, splits=splits, checkpoints=tmp_path)
    assert isinstance(whole, CandidateResult)
    assert isinstance(resumed, CandidateResult)
    assert isinstance(epochs[-1], EpochResult)
    assert_same(resumed, whole)
    # Predictions and attacks see the loss's head, as the validation does.
    assert whole.outcomes.clean_accuracy() == pytest.approx(epochs[-1].validation_accuracy)


def test_the_losss_head_decides(problem: Problem) -> None:
    splits = load_splits(problem.data)
    (made, *_) = make_replicates(dataclasses.replace(problem, loss=make("loss", f"{PLUGINS}:Prototypes")), splits)
    images = splits["validation"].images[:5]
    features = made.model[:-1](images)  # type: ignore[index]
    torch.testing.assert_close(made.predictor(images), made.loss.head(features))  # type: ignore[operator]
    assert set(made.loss.parameters()) <= set(made.predictor.parameters())


def test_a_model_that_cannot_take_the_images_is_refused_before_anything_starts(
    problem: Problem, tmp_path: Path
) -> None:
    large = Split(torch.rand(6, 1, 40, 40), torch.arange(6) % 3)
    with pytest.raises(ValueError, match=r"^data\.size must give images of at most 32x32 pixels for lenet5"):
        next(run_candidate(problem, SETTING, splits={"train": large, "validation": large}, checkpoints=tmp_path / "c"))
    assert not (tmp_path / "c").exists()


def test_an_unknown_loss_is_refused(problem: Problem) -> None:
    with pytest.raises(ValueError, match=r"^loss\.name must be one of .*, i-sce, .*, got isce; did you mean i-sce"):
        next(run_candidate(problem, Candidate("isce", {"s": 1.0, "m": 0.1})))


PROGRAM = """
import json, sys, torch
torch.set_num_threads(1)
from trainables.candidate import Candidate
from trainables.losses.cross_entropy import CrossEntropy
from trainables.models.lenet5 import LeNet5
from trainables.attacks.pgd import PGD
from trainables.settings import *
from trainables.trial import run_candidate

problem = Problem(
    data=DataSettings(train_size=200, validation_size=100, seed=3),
    model=LeNet5(),
    loss=CrossEntropy(),
    train=TrainSettings(epochs=3, batch_size=64, learning_rate=2e-3, schedule="cosine", replicates=2, seed=5),
    robustness=RobustnessSettings(attacks=(PGD(steps=2),), images=20),
)
*_, result = run_candidate(problem, Candidate("i-sce", {"s": 1.5, "m": 0.05}))
heavy = [name for name in ("ray", "optuna", "mlflow", "torchvision") if name in sys.modules]
print(json.dumps({"losses": result.validation_losses, "kept": result.outcomes.kept.tolist(), "heavy": heavy}))
"""


@pytest.mark.slow
def test_another_process_finds_the_same_numbers_with_light_imports(problem: Problem) -> None:
    torch.manual_seed(12345)
    _, here = finish(problem)
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    there = json.loads(output)
    assert there["losses"] == list(here.validation_losses)
    assert there["kept"] == here.outcomes.kept.tolist()
    assert there["heavy"] == []


def adversarial(problem: Problem) -> Problem:
    """A problem whose adversarial training fluctuates, so that a middle epoch may be the best."""
    train = dataclasses.replace(problem.train, epochs=4, learning_rate=0.02)
    defence = make("defence", "adversarial-training", {"norm": "l2", "epsilon": 1.0, "steps": 2})
    return dataclasses.replace(problem, train=train, defence=defence, loss=make("loss", "cross-entropy"))


def test_adversarial_training_reports_the_best_epoch_beside_the_last(problem: Problem, tmp_path: Path) -> None:
    problem, candidate = adversarial(problem), Candidate("cross-entropy", {}, "adversarial-training")
    *epochs, result = run_candidate(problem, candidate, checkpoints=tmp_path)
    assert isinstance(result, CandidateResult)
    assert result.best is not None
    selection = np.array([epoch.selection_accuracy for epoch in epochs if isinstance(epoch, EpochResult)])
    assert selection.shape == (4, 2)
    assert result.best.epochs == tuple(selection.argmax(0) + 1)
    splits = load_splits(problem.data)
    for r, seed in enumerate(result.outcomes.seeds):
        (best,) = load_trained(tmp_path / f"best-{seed}.pt", problem, splits)
        assert best.epoch == result.best.epochs[r]
        outcomes = evaluate([best.predictor], splits["validation"], problem.robustness, [seed])
        assert result.best.clean[r] == outcomes.clean_accuracy()[0]
        assert result.best.robust[r] == outcomes.robust_accuracy()[0]


def test_the_best_epoch_is_the_same_after_an_interruption(problem: Problem, tmp_path: Path) -> None:
    problem, candidate = adversarial(problem), Candidate("cross-entropy", {}, "adversarial-training")
    *_, whole = run_candidate(problem, candidate, checkpoints=tmp_path / "whole")
    interrupted = run_candidate(problem, candidate, checkpoints=tmp_path / "parts")
    for _ in range(2):
        next(interrupted)
    interrupted.close()
    *_, resumed = run_candidate(problem, candidate, checkpoints=tmp_path / "parts")
    assert isinstance(whole, CandidateResult)
    assert isinstance(resumed, CandidateResult)
    assert resumed.best == whole.best


def test_the_best_epoch_is_the_first_of_the_highest(problem: Problem) -> None:
    replicate = make_replicates(problem, load_splits(problem.data))[0]
    assert replicate.best_epoch == 0
    for accuracy in (0.1, 0.4, 0.4, 0.2):
        replicate.history.append(ReplicateEpoch(0.1, 0.1, 0.9, 1.0, selection_accuracy=accuracy))
    assert replicate.best_epoch == 2


def test_other_trainings_keep_no_best_epoch(problem: Problem, tmp_path: Path) -> None:
    _, result = finish(problem, tmp_path)
    assert result.best is None
    assert not list(tmp_path.glob("best-*"))
