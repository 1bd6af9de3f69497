"""Both sides of ``sweep_vs_naive`` do the same work, and the reported figures are right."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import datasets, transforms

from search.config import parse
from tests.benchmarks.naive_training import (
    LeNet5,
    attack_func,
    get_data_loaders,
    make_loss,
    make_optimizer,
    train_func,
    validate_func,
)
from tests.benchmarks.robustfront_sweep import sweep_config
from tests.benchmarks.sweep_vs_naive import (
    averaged,
    break_down,
    disagreements,
    make_work,
    table,
    tiny,
    watch,
    write_mnist,
)
from tests.benchmarks.workload import ATTACK, PASSES, Candidate, PassCounter, TrialMeasurement, Work
from trainables.candidate import Candidate as OurSetting
from trainables.candidate import resolve
from trainables.data.splits import load_splits
from trainables.losses import Loss
from trainables.models.lenet5 import LeNet5 as OurLeNet5
from trainables.registry import make
from trainables.robustness import Outcomes
from trainables.training.loop import training_step
from trainables.training.replicate import make_replicates


@pytest.fixture(scope="module")
def work() -> Work:
    """The smoke test's work."""
    return tiny(make_work(3))


@pytest.fixture(scope="module")
def mnist(work: Work, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work's images as torchvision reads them."""
    folder = tmp_path_factory.mktemp("mnist")
    write_mnist(work, folder)
    return folder


def our_setting(setting: Candidate) -> OurSetting:
    """A setting of the work as robustfront represents it."""
    return OurSetting(setting["loss"], {name: value for name, value in setting.items() if name != "loss"})


def our_loss(setting: Candidate) -> nn.Module:
    """Our loss module for a setting."""
    ours = our_setting(setting)
    loss: Loss = make("loss", ours.loss, ours.parameters)
    return loss.build(None, 10)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copies weights between models of one architecture, whose layers have the same order but different names."""
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    with torch.no_grad():
        for original, copy in pairs:
            copy.copy_(original)


def test_both_networks_are_the_same_function() -> None:
    torch.manual_seed(0)
    ours, naive = OurLeNet5().build((1, 28, 28), 10), LeNet5()
    copy_weights(ours, naive)
    images = torch.rand(7, 1, 28, 28)
    torch.testing.assert_close(naive(images), ours(images))


@pytest.mark.parametrize("setting", make_work(5).settings, ids=str)
def test_both_losses_are_the_same_function(setting: Candidate) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 10, requires_grad=True), torch.randint(10, (6,))
    naive, ours = make_loss(setting)(logits, labels), our_loss(setting)(None, logits, labels)
    torch.testing.assert_close(naive, ours)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (naive, ours)))


def test_both_read_the_same_images(work: Work, mnist: Path) -> None:
    splits = load_splits(parse(sweep_config(work)).data)
    for name, train in (("train", True), ("validation", False)):
        read = datasets.MNIST(mnist, train=train, transform=transforms.ToTensor())
        assert torch.equal(torch.stack([image for image, _ in read]), splits[name].images)
        assert torch.equal(read.targets, splits[name].labels)


def test_the_same_batches_train_both_to_the_same_weights(work: Work) -> None:
    """Checks loss, Adam and schedule together, up to rounding, which Adam's first steps amplify."""
    problem, setting = parse(sweep_config(work)).problem, work.settings[-1]
    splits = load_splits(problem.data)
    problem = resolve(problem, our_setting(setting))
    (replicate,) = make_replicates(problem, splits)
    naive = LeNet5()
    copy_weights(replicate.model, naive)
    split = splits["train"]
    batches = [
        (split.images[start : start + work.batch_size], split.labels[start : start + work.batch_size])
        for start in range(0, len(split), work.batch_size)
    ]
    steps = work.epochs * len(batches)
    optimizer, scheduler = make_optimizer(naive, work, steps)
    for epoch in range(work.epochs):
        train_func(naive, make_loss(setting), optimizer, scheduler, batches)
        for step, (images, labels) in enumerate(batches):
            progress = (epoch * len(batches) + step) / steps
            training_step(replicate, images, labels, problem.train, progress)
    for theirs, mine in zip(naive.parameters(), replicate.model.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, rtol=0.0, atol=0.01 * work.learning_rate)


def test_the_naive_trial_takes_the_passes_that_the_work_expects(work: Work, mnist: Path) -> None:
    torch.manual_seed(0)
    single = replace(work, settings=work.settings[:1])
    train_loader, validation_loader, attack_loader = get_data_loaders(mnist, single)
    counter = PassCounter()
    model, loss = counter.attach(LeNet5()), make_loss(single.settings[0])
    optimizer, scheduler = make_optimizer(model, single, single.epochs * len(list(train_loader)))
    for _ in range(single.epochs):
        train_func(model, loss, optimizer, scheduler, train_loader)
        validate_func(model, loss, validation_loader)
    counter.phase = ATTACK
    validate_func(model, loss, validation_loader)
    attack_func(model, attack_loader, single)
    assert counter.passes == single.passes()


def test_the_naive_attack_breaks_nothing_at_a_tiny_radius_and_all_at_a_large_one(work: Work, mnist: Path) -> None:
    torch.manual_seed(0)
    model = LeNet5()
    _, validation, attacked = get_data_loaders(mnist, work)
    _, correct = validate_func(model, make_loss(work.settings[0]), validation)
    survived = attack_func(model, attacked, replace(work, epsilon=1e-6))
    assert correct[: work.images].any()
    assert torch.equal(survived, correct[: work.images])
    assert not attack_func(model, attacked, replace(work, epsilon=20.0, steps=20)).any()


def test_an_image_for_which_deepfool_needs_more_than_the_radius_survives(work: Work) -> None:
    torch.manual_seed(0)
    few = replace(work, images=4, deepfool=True, views=["raw"])
    model, images = LeNet5(), torch.rand(4, 1, 28, 28)
    batches = [(images, model(images).argmax(1))]
    assert attack_func(model, batches, replace(few, epsilon=1e-6)).all()
    assert not attack_func(model, batches, replace(few, epsilon=20.0, steps=20)).any()


def test_our_sweep_runs_the_settings_of_the_work_in_order() -> None:
    work = make_work(8)
    config = parse(sweep_config(work))
    ran = [{"loss": setting.loss, **setting.parameters} for setting in config.baselines]
    ran += [{"loss": "i-sce", **parameters} for parameters in config.fixed_settings]
    assert ran == list(work.settings)
    assert config.budget + len(config.baselines) == 8


def test_our_counted_trial_counts_what_the_attacks_count(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainables.training.replicate
    from tests.benchmarks.robustfront_trial import CountedTrial

    monkeypatch.setattr(
        trainables.training.replicate, "build_model", trainables.training.replicate.build_model
    )  # undone after the test
    config, folder = parse(sweep_config(work)), tmp_path / "runs" / "benchmark"
    tasks = [
        {"units": [{"number": str(number), "candidate": asdict(our_setting(setting)), "seed": 0, "role": "search"}]}
        for number, setting in enumerate(work.settings[:2])
    ]
    folder.mkdir(parents=True)
    trial = CountedTrial.__new__(CountedTrial)  # Tune's own parts are not needed
    trial.setup(tasks[0], problem=config.problem, rungs=None, folder=str(folder), owner=1, threads=1, cuda=False)
    for task in tasks:
        if task is not tasks[0]:
            trial.reset_config(task)
        for _ in range(work.epochs + 1):
            trial.step()
    measured = TrialMeasurement.read_all(tmp_path / "measurements")
    assert [trial.setting for trial in measured] == list(work.settings[:2])
    expected = replace(work, settings=work.settings[:1]).passes()
    for number, measured_trial in enumerate(measured):
        forward, backward = Outcomes.load(folder / "outcomes" / f"{number}.npz").passes.sum(axis=(0, 1, 2, 3)).tolist()
        expected["attack forward"], expected["attack backward"] = work.validation_images + forward, backward
        assert measured_trial.passes == expected
        assert 0 < backward < work.images * work.steps * len(work.views)


def measurement(started: float, finished: float, training: float, attack: float) -> TrialMeasurement:
    """A trial with the given times."""
    return TrialMeasurement(
        setting={"loss": "cross-entropy"},
        passes=dict.fromkeys(PASSES, 10),
        started=started,
        finished=finished,
        train_seconds=training,
        attack_seconds=attack,
        clean_accuracy=0.5,
        robust_accuracy=0.25,
    )


def test_the_break_down_adds_up_to_the_wall_time() -> None:
    trials = [
        measurement(110.0, 115.0, 3.0, 1.0),
        measurement(111.0, 118.0, 5.0, 2.0),
        measurement(116.0, 120.0, 2.0, 1.0),
    ]
    side = break_down(trials, concurrency=2, began=100.0, ended=125.0, processor=36.0)
    assert (side.wall, side.start_up, side.results, side.processor) == (25.0, 10.0, 5.0, 12.0)
    assert side.overhead == pytest.approx((2 * 10.0 - 14.0) / 3)
    assert side.trials_per_hour == pytest.approx(3 * 3600 / 25)
    total = side.start_up + side.results + 3 * (side.training + side.attack + side.overhead) / 2
    assert side.wall == pytest.approx(total)
    assert side.passes == dict.fromkeys(PASSES, 30)


@pytest.mark.parametrize("name", PASSES)
def test_a_difference_in_the_counts_is_reported(work: Work, name: str) -> None:
    side = break_down([measurement(1.0, 2.0, 0.1, 0.1)], concurrency=2, began=0.0, ended=3.0, processor=4.0)
    exact = replace(side, passes=work.passes())
    fewer = replace(side, passes={**work.passes(), name: work.passes()[name] - 1})
    more = replace(side, passes={**work.passes(), name: work.passes()[name] + 1})
    assert disagreements(work, [exact], naive=exact) == []
    assert name in "".join(disagreements(work, [exact], naive=fewer))
    assert name in "".join(disagreements(work, [more], naive=exact))
    # Only our attacks may pass fewer images.
    assert bool(disagreements(work, [fewer], naive=exact)) == (not name.startswith("attack"))


def test_the_table_shows_how_many_times_faster() -> None:
    trials = [measurement(1.0, 2.0, 0.1, 0.1)]
    first, second = (break_down(trials, concurrency=2, began=0.0, ended=ended, processor=4.0) for ended in (3.0, 5.0))
    naive = break_down(trials, concurrency=2, began=0.0, ended=12.0, processor=4.0)
    rows = {line[:26].strip(): line[26:].split() for line in table([first, second], naive).splitlines()}
    assert rows["trials per hour"] == ["1,200.0", "720.0", "900.0", "300.0", "3.00x"]
    assert rows["wall, s"] == ["3.0", "5.0", "4.0", "12.0", "3.00x"]
    assert rows["results, s"] == ["1.0", "3.0", "2.0", "10.0", "5.00x"]


def test_the_mean_of_two_runs_adds_up_to_its_wall_time() -> None:
    runs = [
        break_down([measurement(101.0, 105.0, 3.0, 1.0), measurement(106.0, 108.0, 1.0, 0.5)], 1, 100.0, 110.0, 8.0),
        break_down([measurement(203.0, 206.0, 2.0, 1.0), measurement(206.0, 211.0, 3.0, 1.5)], 1, 200.0, 212.0, 12.0),
    ]
    side = averaged(runs)
    assert (side.wall, side.processor) == (pytest.approx(11.0), pytest.approx(5.0))
    assert side.trials_per_hour == pytest.approx(2 * 3600 / 11)
    total = side.start_up + side.results + 2 * (side.training + side.attack + side.overhead)
    assert side.wall == pytest.approx(total)


def test_a_difference_between_our_runs_is_reported(work: Work) -> None:
    side = break_down([measurement(1.0, 2.0, 0.1, 0.1)], concurrency=2, began=0.0, ended=3.0, processor=4.0)
    exact = replace(side, passes=work.passes())
    fewer = replace(side, passes={**work.passes(), "attack forward": work.passes()["attack forward"] - 1})
    assert disagreements(work, [exact, exact], naive=exact) == []
    assert "passes" in "".join(disagreements(work, [exact, fewer], naive=exact))
    assert "robust" in "".join(disagreements(work, [exact, replace(exact, robust_accuracy=0.5)], naive=exact))


BUSY = """
import subprocess, sys, time
if sys.argv[1] == "parent":
    child = subprocess.Popen([sys.executable, *sys.orig_argv[1:-1], "child"])
while time.process_time() < 1.5:
    pass
if sys.argv[1] == "parent":
    child.wait()
time.sleep(2.5)  # long enough for one more reading
"""


def test_the_cpu_seconds_are_those_of_a_process_and_its_descendants() -> None:
    seconds = watch(subprocess.Popen([sys.executable, "-c", BUSY, "parent"]))
    assert seconds == pytest.approx(3.0, abs=0.2)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_benchmark_runs(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "tests.benchmarks.sweep_vs_naive", "--tiny", "--json", str(output)]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=570, check=False
    )
    elapsed = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(output.read_text(encoding="utf-8"))
    ours, naive = result["robustfront"], result["naive"]
    assert ours["trials"] == naive["trials"] == 3
    assert naive["passes"] == result["expected_passes"]
    assert result["order"] == ["robustfront", "naive", "robustfront"]
    first, second = result["runs"]["robustfront"]
    assert ours["wall"] == pytest.approx((first["wall"] + second["wall"]) / 2)
    assert result["speed_up"] == pytest.approx(naive["wall"] / ours["wall"])
    assert first["wall"] + naive["wall"] + second["wall"] < elapsed
    assert "trials per hour" in done.stdout
