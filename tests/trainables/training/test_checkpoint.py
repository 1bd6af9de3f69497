from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.candidate import Candidate, candidate_of
from trainables.data.splits import Split, load_splits
from trainables.defences.adversarial_training import AdversarialTraining
from trainables.losses.cross_entropy import CrossEntropy
from trainables.models.cnn8 import CNN8
from trainables.models.resnet32 import ResNet32
from trainables.optimizers.adamw import AdamW
from trainables.optimizers.sgd import SGD
from trainables.registry import make, names
from trainables.settings import Problem
from trainables.training.checkpoint import load_latest, load_trained, read, save
from trainables.training.loop import train
from trainables.training.replicate import Replicate, make_replicates


def advance(problem: Problem, splits: dict[str, Split], folder: Path, epochs: int) -> list[Any]:
    """Stands for a process: makes replicates, resumes them, trains some epochs, saves each, and stops."""
    replicates = make_replicates(problem, splits)
    done = load_latest(folder, replicates)
    generator = train(replicates, splits, problem)
    for epoch, _ in zip(range(done + 1, done + epochs + 1), generator, strict=False):
        save(folder, replicates, candidate_of(problem, {}))
        assert replicates[0].epoch == epoch
    return [replicate.state_dict() for replicate in replicates]


def assert_same(actual: Any, expected: Any) -> None:
    """Bit for bit, but for the seconds that an epoch took."""
    assert type(actual) is type(expected)
    if isinstance(actual, torch.Tensor):
        assert torch.equal(actual, expected)
    elif isinstance(actual, dict):
        assert actual.keys() == expected.keys()
        for key in actual.keys() - {"seconds"}:
            assert_same(actual[key], expected[key])
    elif isinstance(actual, (list, tuple)):
        for left, right in zip(actual, expected, strict=True):
            assert_same(left, right)
    else:
        assert actual == expected


def test_resumed_equals_uninterrupted_bit_for_bit(problem: Problem, tmp_path: Path) -> None:
    splits = load_splits(problem.data)
    whole = advance(problem, splits, tmp_path / "whole", 3)
    for _ in range(3):
        parts = advance(problem, splits, tmp_path / "parts", 1)
    assert_same(parts, whole)
    assert parts[0]["history"][-1]["train_loss"] > 0


def test_resuming_keeps_batch_normalization_and_augmentation_too(
    problem: Problem, noise: dict[str, Split], tmp_path: Path
) -> None:
    settings = dataclasses.replace(problem.train, batch_size=4, schedule="step", epochs=2, replicates=1)
    data = dataclasses.replace(problem.data, augment=True)
    problem = dataclasses.replace(problem, data=data, model=ResNet32(), train=settings)
    noise = {name: split[:8] for name, split in noise.items()}
    whole = advance(problem, noise, tmp_path / "whole", 2)
    for _ in range(2):
        parts = advance(problem, noise, tmp_path / "parts", 1)
    assert_same(parts, whole)


PLUGINS = "tests.trainables.plugins"
EVERYTHING = [
    {"loss": make("loss", f"{PLUGINS}:Prototypes")},
    {"model": make("model", f"{PLUGINS}:Branches"), "loss": make("loss", f"{PLUGINS}:Prototypes")},
    {"precision": "bf16", "loss": make("loss", f"{PLUGINS}:Prototypes")},
    {"defence": AdversarialTraining(norm="l2", epsilon=0.5, steps=2)},
    {"model": make("model", f"{PLUGINS}:Branches"), "defence": make("defence", f"{PLUGINS}:noisy")},
    {"optimizer": SGD(momentum=0.9, nesterov=True, weight_decay=5e-4)},
    {"optimizer": AdamW()},
    {"precision": "fp16", "defence": AdversarialTraining(epsilon=0.1, steps=2)},
    {"precision": "fp16", "defence": make("defence", "trades", {"steps": 2})},
    {"loss": make("loss", "center"), "defence": AdversarialTraining(epsilon=0.1, steps=2)},
    *({"precision": "bf16", "loss": make("loss", name)} for name in names("loss")),
]


@pytest.mark.parametrize("changes", EVERYTHING, ids=str)
def test_every_component_resumes_bit_for_bit(problem: Problem, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Parameters and buffers of the loss, the optimizer's state, and the defence's and dropout's random numbers."""
    of_problem = {name: value for name, value in changes.items() if name in ("model", "loss", "defence")}
    of_training = {name: value for name, value in changes.items() if name not in of_problem}
    settings = dataclasses.replace(problem.train, epochs=2, replicates=1, **of_training)
    problem = dataclasses.replace(problem, train=settings, **of_problem)
    splits = load_splits(problem.data)
    whole = advance(problem, splits, tmp_path / "whole", 2)
    for _ in range(2):
        parts = advance(problem, splits, tmp_path / "parts", 1)
    assert_same(parts, whole)


def test_the_losss_parameters_and_buffers_are_trained_and_saved(problem: Problem, tmp_path: Path) -> None:
    problem = dataclasses.replace(problem, loss=make("loss", f"{PLUGINS}:Prototypes"))
    splits = load_splits(problem.data)
    before = make_replicates(problem, splits)[0].state_dict()["loss"]
    after = advance(problem, splits, tmp_path, 1)[0]["loss"]
    assert before.keys() == after.keys() == {"prototypes", "mean"}
    for name, value in before.items():
        assert not torch.equal(value, after[name])
    plain = make_replicates(dataclasses.replace(problem, loss=CrossEntropy()), splits)
    with pytest.raises(ValueError, match="model and loss must be those saved in"):
        load_latest(tmp_path, plain)


@pytest.fixture
def trained(problem: Problem, tmp_path: Path) -> tuple[list[Replicate], Path]:
    """Replicates as made, and a folder with the checkpoints of epochs 2 and 3 of their training."""
    splits = load_splits(problem.data)
    advance(problem, splits, tmp_path, 3)
    return make_replicates(problem, splits), tmp_path


def test_only_the_last_two_files_are_kept(trained: tuple[list[Replicate], Path]) -> None:
    _, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == ["epoch-00002.pt", "epoch-00003.pt"]


def test_without_a_checkpoint_nothing_changes(problem: Problem, tmp_path: Path) -> None:
    replicates = make_replicates(problem, load_splits(problem.data))
    before = [replicate.state_dict() for replicate in replicates]
    assert load_latest(tmp_path / "nowhere", replicates) == 0
    assert_same([replicate.state_dict() for replicate in replicates], before)


@pytest.mark.parametrize("size", [0, 10, 5000, -100])
def test_a_broken_newest_file_falls_back_to_the_one_before(
    trained: tuple[list[Replicate], Path], caplog: pytest.LogCaptureFixture, size: int
) -> None:
    replicates, folder = trained
    newest = folder / "epoch-00003.pt"
    newest.write_bytes(newest.read_bytes()[:size])
    with caplog.at_level(logging.WARNING):
        assert load_latest(folder, replicates) == 2
    assert str(newest) in caplog.text
    assert len(replicates[1].history) == 2


class Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("bare", [False, True])
def test_a_checkpoint_that_would_run_code_is_refused(
    trained: tuple[list[Replicate], Path], tmp_path: Path, bare: bool
) -> None:
    replicates, folder = trained
    victim, newest = tmp_path / "victim", folder / "epoch-00003.pt"
    if bare:
        newest.write_bytes(pickle.dumps({"replicates": Bomb(victim)}))
    else:
        torch.save({"replicates": [Bomb(victim)]}, newest)
        assert zipfile.is_zipfile(newest)
    with pytest.raises(ValueError, match=r"the checkpoint must be readable, got .*epoch-00003"):
        read(newest)
    assert load_latest(folder, replicates) == 2
    assert not victim.exists()


def test_a_write_that_is_cut_off_leaves_the_file_before(
    trained: tuple[list[Replicate], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    replicates, folder = trained
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(folder, replicates, Candidate("cross-entropy"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_checkpoint_from_another_kind_of_device_is_loaded_and_continued(
    trained: tuple[list[Replicate], Path], problem: Problem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replicates, _ = trained
    states = [replicate.state_dict() for replicate in replicates]
    for state in states:
        state |= dict.fromkeys(("generator", "defence_generator"), torch.zeros(16, dtype=torch.uint8))  # as on a GPU
    content = {"owner": 0, "candidate": dataclasses.asdict(candidate_of(problem, {})), "replicates": states}
    torch.save(content, tmp_path / "epoch-00009.pt")
    splits = load_splits(problem.data)
    [loaded, *_] = load_trained(tmp_path, problem, splits)
    assert_same(loaded.model.state_dict(), replicates[0].model.state_dict())
    assert not caplog.records, "what is attacked does not depend on the streams"
    orders = []
    for _ in range(2):
        resumed = make_replicates(problem, splits)
        assert load_latest(tmp_path, resumed) == replicates[0].epoch
        orders.append(torch.randperm(50, generator=resumed[0].generator))
    assert torch.equal(*orders)
    assert [record.getMessage().partition(" is ")[2] for record in caplog.records] == [
        "from another kind of device: the order of images continues from a new seed"
    ] * 2


def test_checkpoints_of_another_problem_are_refused(trained: tuple[list[Replicate], Path], problem: Problem) -> None:
    replicates, folder = trained
    with pytest.raises(ValueError, match=r"train\.replicates must be 2 .*, got 1"):
        load_latest(folder, replicates[:1])
    with pytest.raises(ValueError, match="must be that of replicate seed"):
        load_latest(folder, replicates[::-1])
    other = make_replicates(dataclasses.replace(problem, model=CNN8()), load_splits(problem.data))
    with pytest.raises(ValueError, match="model and loss must be those saved in"):
        load_latest(folder, other)
