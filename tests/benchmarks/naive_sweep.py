"""The naive side of ``sweep_vs_naive``: the stack that one writes from the libraries' own examples.

    python -m tests.benchmarks.naive_sweep WORK FOLDER

Where each part comes from (in the installed versions):

- The trainable is a function that makes its own ``datasets.MNIST`` and ``DataLoader`` and reports every epoch with a
  checkpoint from a temporary folder: ``ray/tune/examples/mnist_pytorch.py``.
- ``OptunaSearch`` with two objectives in a ``ConcurrencyLimiter``, and parameters that depend on another:
  ``optuna_multiobjective_example.py`` and ``optuna_define_by_run_example.py`` in the same folder.
  ``points_to_evaluate`` makes it run our settings.
- ``MLflowLoggerCallback`` with a tracking URI: ``ray/tune/examples/mlflow_example.py``.
- ``PGDL2`` and ``DeepFool`` are called as in torchattacks' README, one batch at a time, after the clean accuracy is
  measured as in its demos.

Where an example leaves a choice, the quicker one is taken: no artifacts are copied to MLflow, Optuna keeps its study in
memory, two checkpoints per trial are kept, each trial has one torch thread (with torch's own choice two trials on two
cores are many times slower), and validation uses batches of 1,000. Everything else is Tune's default: a new actor for
every trial, its CSV, JSON and TensorBoard loggers, its table in the terminal. No pictures are drawn.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune import Checkpoint
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from tests.benchmarks.naive_training import (
    LeNet5,
    attack_func,
    get_data_loaders,
    make_loss,
    make_optimizer,
    train_func,
    validate_func,
)
from tests.benchmarks.workload import ATTACK, DATA, MEASUREMENTS, PassCounter, TrialMeasurement, Work


def train_mnist(config: dict[str, Any], work: Work, folder: Path) -> None:
    """One trial: trains, validates and reports every epoch, then attacks and reports once more."""
    torch.set_num_threads(1)
    torch.manual_seed(work.seed)
    counter = PassCounter()
    train_loader, validation_loader, attack_loader = get_data_loaders(folder / DATA, work)
    model = counter.attach(LeNet5())
    loss = make_loss(config)
    optimizer, scheduler = make_optimizer(model, work, steps=work.epochs * len(train_loader))
    train_seconds = 0.0
    for _ in range(work.epochs):
        began = time.perf_counter()
        train_loss = train_func(model, loss, optimizer, scheduler, train_loader)
        validation_loss, correct = validate_func(model, loss, validation_loader)
        train_seconds += time.perf_counter() - began
        metrics = {
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "validation_accuracy": correct.float().mean().item(),
        }
        with tempfile.TemporaryDirectory() as checkpoint:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, Path(checkpoint) / "checkpoint.pt")
            tune.report(metrics, checkpoint=Checkpoint.from_directory(checkpoint))

    counter.phase = ATTACK
    began = time.perf_counter()
    _, correct = validate_func(model, loss, validation_loader)
    survived = attack_func(model, attack_loader, work) & correct[: work.images]
    attack_seconds = time.perf_counter() - began
    objectives = {"clean_accuracy": correct.float().mean().item(), "robust_accuracy": survived.float().mean().item()}
    assert counter.first is not None
    TrialMeasurement(
        setting=config,
        passes=counter.passes,
        started=counter.first,
        finished=time.time(),
        train_seconds=train_seconds,
        attack_seconds=attack_seconds,
        **objectives,
    ).write(folder / MEASUREMENTS / f"{tune.get_context().get_trial_id()}.json")
    tune.report(metrics | objectives)


def define_search_space(trial: optuna.Trial) -> None:
    """The losses, and the parameters of I-SCE."""
    if trial.suggest_categorical("loss", ["cross-entropy", "i-sce"]) == "i-sce":
        trial.suggest_float("s", 1.0, 2.0)
        trial.suggest_float("m", 0.0, 0.1)


def main() -> int:
    """Runs the work; returns 1 if a trial failed."""
    work, folder = Work.read(Path(sys.argv[1])), Path(sys.argv[2])
    ray.init(address="local", num_cpus=work.concurrency)
    search = OptunaSearch(
        define_search_space,
        metric=["clean_accuracy", "robust_accuracy"],
        mode=["max", "max"],
        points_to_evaluate=[dict(setting) for setting in work.settings],
        seed=work.seed,
    )
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_mnist, work=work, folder=folder), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=work.concurrency), num_samples=len(work.settings)
        ),
        run_config=tune.RunConfig(
            name="naive",
            storage_path=str(folder / "ray_results"),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="naive")],
        ),
    )
    results = tuner.fit()
    ray.shutdown()
    return 1 if results.errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
