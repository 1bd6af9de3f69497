"""Our side of ``sweep_vs_naive``: ``robustfront sweep`` as a user types it, with a counter on every model.

    python -m tests.benchmarks.robustfront_sweep WORK FOLDER

The sweep is unchanged, except that its trial class is replaced by one that also counts. Each trial's measurements go to
FOLDER/measurements, the run itself to FOLDER/runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import search.sweep.driver
from search.cli.main import run
from tests.benchmarks.workload import Work
from trainables.losses.i_sce import ISCE

NAME: Final = "benchmark"
RUNS: Final = "runs"


def sweep_config(work: Work) -> dict[str, Any]:
    """The work as a configuration of ``robustfront``."""
    attacks: list[dict[str, Any]] = [{"name": "pgd", "loss": "ce", "steps": work.steps}]
    if work.deepfool:
        attacks.append({"name": "torchattacks.DeepFool"})
    # A sweep trains the baselines and tries the authors' own setting without being asked.
    automatic: list[dict[str, Any]] = [{"loss": baseline.loss, **baseline.parameters} for baseline in ISCE.baselines]
    automatic.append({"loss": "i-sce", **ISCE().reference})
    assert list(work.settings[: len(automatic)]) == automatic
    search_settings = work.settings[len(ISCE.baselines) :]
    return {
        "name": NAME,
        "data": {
            "name": work.data,
            "train_size": work.train_images,
            "validation_size": work.validation_images,
            "seed": work.data_seed,
        },
        "model": "lenet5",
        "train": {
            "epochs": work.epochs,
            "batch_size": work.batch_size,
            "learning_rate": work.learning_rate,
            "schedule": "cosine",
            "seed": work.seed,
        },
        "robustness": {
            "attacks": attacks,
            "epsilon": work.epsilon,
            "views": list(work.views),
            "images": work.images,
            "batch_size": work.attack_batch,
        },
        "search": {
            "trials": len(search_settings),
            "enqueue": [{"s": setting["s"], "m": setting["m"]} for setting in search_settings[1:]],
            "concurrency": work.concurrency,
            "seed": work.seed,
        },
    }


def _counted(run_trials: Callable[..., None]) -> Callable[..., None]:
    """Uses our trial class in place of the sweep's; imported late, because Ray must be set up before its import."""

    def run_counted(*arguments: Any) -> None:
        import search.worker.trial
        from tests.benchmarks.robustfront_trial import CountedTrial

        search.worker.trial.SettingTrial = CountedTrial  # type: ignore[misc]
        run_trials(*arguments)

    return run_counted


def main() -> int:
    """Runs the work and returns the command's exit code."""
    work, folder = Work.read(Path(sys.argv[1])), Path(sys.argv[2])
    config = folder / "sweep.yaml"
    config.write_text(json.dumps(sweep_config(work)), encoding="utf-8")  # JSON is YAML
    search.sweep.driver._run_trials = _counted(search.sweep.driver._run_trials)
    return run(["sweep", str(config), "--runs-dir", str(folder / RUNS)])


if __name__ == "__main__":
    raise SystemExit(main())
