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
from trainables.settings import Problem
from trainables.training.loop import EpochResult, replicate_seeds
from trainables.trial import SettingResult, run_setting

SETTING = Candidate("i-sce", {"s": 1.5, "m": 0.05})


def finish(problem: Problem, checkpoints: Path | None = None) -> tuple[list[EpochResult], SettingResult]:
    *epochs, result = run_setting(problem, SETTING, checkpoints=checkpoints)
    assert isinstance(result, SettingResult)
    assert all(isinstance(epoch, EpochResult) for epoch in epochs)
    return epochs, result  # type: ignore[return-value]


def assert_same(one: SettingResult, other: SettingResult) -> None:
    assert one.objectives == other.objectives
    assert one.replicates == other.replicates
    np.testing.assert_array_equal(one.outcomes.clean, other.outcomes.clean)
    np.testing.assert_array_equal(one.outcomes.kept, other.outcomes.kept)


def test_a_setting_is_trained_and_attacked(problem: Problem) -> None:
    epochs, result = finish(problem)
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3]
    assert [replicate["seed"] for replicate in result.replicates] == list(replicate_seeds(problem.train))
    assert result.outcomes.seeds == replicate_seeds(problem.train)
    assert result.outcomes.kept.shape == (2, 1, 2, 1, 20)
    for name, value in result.objectives.items():
        assert value == pytest.approx(np.mean([replicate[name] for replicate in result.replicates]))
    for r, replicate in enumerate(result.replicates):
        assert replicate["clean_accuracy"] == pytest.approx(epochs[-1].validation_accuracy[r])
        assert replicate["train_loss"] == epochs[-1].train_loss[r]
        assert replicate["attack_accuracy"].keys() == {"pgd2-ce/normalized", "pgd2-ce/worst"}
        assert replicate["robust_accuracy"] <= min(replicate["attack_accuracy"].values())
    assert result.train_seconds == pytest.approx(sum(epoch.seconds for epoch in epochs))
    assert result.attack_seconds > 0


def test_a_replicate_is_the_same_whichever_are_trained_beside_it(problem: Problem) -> None:
    *epochs, later = run_setting(problem, SETTING, replicates=[1, 2])
    three = dataclasses.replace(problem, train=dataclasses.replace(problem.train, replicates=3))
    all_epochs, together = finish(three)
    assert isinstance(later, SettingResult)
    assert later.replicates == together.replicates[1:]
    assert later.outcomes.seeds == together.outcomes.seeds[1:]
    np.testing.assert_array_equal(later.outcomes.kept, together.outcomes.kept[1:])
    for epoch, all_three in zip(epochs, all_epochs, strict=True):
        assert isinstance(epoch, EpochResult)
        assert epoch.train_loss == all_three.train_loss[1:]


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_stopped_setting_goes_on_to_the_same_result(problem: Problem, tmp_path: Path, stop_after: int) -> None:
    whole_epochs, whole = finish(problem)
    generator = run_setting(problem, SETTING, checkpoints=tmp_path)
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
    *_, result = run_setting(problem, SETTING, splits=splits)
    assert isinstance(result, SettingResult)
    assert_same(result, whole)


PROGRAM = """
import json, sys, torch
torch.set_num_threads(1)
from trainables.trial import run_setting
from trainables.attacks.pgd import PGD
from trainables.settings import *

problem = Problem(
    data=DataSettings(train_size=200, validation_size=100, seed=3),
    model="lenet5",
    train=TrainSettings(epochs=3, batch_size=64, learning_rate=2e-3, schedule="cosine", replicates=2, seed=5),
    robustness=RobustnessSettings(attacks=(AttackSettings(name="pgd", steps=2),), images=20),
)
*_, result = run_setting(problem, Candidate("i-sce", {"s": 1.5, "m": 0.05}))
heavy = [name for name in ("torch._dynamo", "ray", "optuna", "mlflow", "torchvision") if name in sys.modules]
print(json.dumps({"replicates": result.replicates, "kept": result.outcomes.kept.tolist(), "heavy": heavy}))
"""


@pytest.mark.slow
def test_another_process_finds_the_same_numbers_with_light_imports(problem: Problem) -> None:
    torch.manual_seed(12345)
    _, here = finish(problem)
    output = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
    there = json.loads(output)
    assert there["replicates"] == json.loads(json.dumps(here.replicates))
    assert there["kept"] == here.outcomes.kept.tolist()
    assert there["heavy"] == []
