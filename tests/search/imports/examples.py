"""Studies of other people: made by plain Ray Tune, and by MLflow's own example of a hyperparameter search."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


def accuracies(config: dict[str, Any]) -> dict[str, float]:
    """A formula in the place of a training: clean accuracy falls with dropout, robust accuracy rises."""
    off = abs(math.log10(config["lr"]) + 2.5) / 10
    return {"val_acc": 0.9 - off - config["dropout"] / 10, "adv_acc": 0.3 + config["dropout"] / 3 - off}


def ray_study(folder: Path) -> str:
    """A search by Ray Tune's ``OptunaSearch``, as its documentation shows it. Returns the storage's URL."""
    import optuna
    import ray
    from ray import tune
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    url = f"sqlite:///{folder / 'ray.db'}"
    search = OptunaSearch(
        metric=["val_acc", "adv_acc"],
        mode=["max", "max"],
        study_name="theirs",
        storage=optuna.storages.RDBStorage(url),
        seed=0,
    )
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        tuner = tune.Tuner(
            accuracies,
            param_space={
                "lr": tune.loguniform(1e-4, 1e-1),
                "dropout": tune.uniform(0, 0.5),
                "activation": tune.choice(["relu", "gelu"]),
            },
            tune_config=tune.TuneConfig(search_alg=ConcurrencyLimiter(search, 1), num_samples=12, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
        )
        assert tuner.fit().num_errors == 0
    finally:
        ray.shutdown()
    return url


def mlflow_experiment(folder: Path, seeds: int = 2) -> str:
    """An experiment as in MLflow's tutorial on hyperparameter search: a parent run, and a nested child run per trial.

    One child beside those of four settings fails; the parent repeats the best result. Returns the tracking URI.
    """
    import mlflow

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("hyperparameter-tuning")
    with mlflow.start_run(run_name="sweep"):
        for lr in (1e-4, 1e-2):
            for dropout in (0.0, 0.4):
                for seed in range(seeds):
                    with mlflow.start_run(nested=True, run_name=f"lr={lr}"):
                        mlflow.log_params({"lr": lr, "dropout": dropout, "seed": seed, "optimizer": "adam"})
                        for epoch in range(2):
                            result = accuracies({"lr": lr, "dropout": dropout})
                            shift = (seed - 0.5) / 50 - (1 - epoch) / 10
                            values = {f"eval/{name}": value + shift for name, value in result.items()}
                            mlflow.log_metrics({**values, "loss": 1 - values["eval/val_acc"]}, step=epoch)
        with mlflow.start_run(nested=True) as lost:
            mlflow.log_params({"lr": 0.1, "dropout": 0.2, "seed": 0, "optimizer": "adam"})
        mlflow.MlflowClient().set_terminated(lost.info.run_id, "FAILED")
        mlflow.log_metrics({"eval/val_acc": 0.99, "eval/adv_acc": 0.99})
    return uri
