"""The same sweep through robustfront and through the stack that one writes from the libraries' own examples.

    python -m tests.benchmarks.sweep_vs_naive [--trials 32] [--deepfool] [--tiny] [--json FILE]

Both sides read the whole work from one file (``workload.Work``): the settings in their order (the two baselines, the
paper's own, then others), LeNet-5 with Adam and the cosine schedule, the splits, epochs and batches of
``tests/quickstart.yaml``, and PGD on cross entropy in both views. Each side runs in its own process on the same
processors, as many as trials at a time, with one torch thread per trial. Data sets are parsed in advance for both.
``naive_sweep`` describes the naive side; ours is ``robustfront sweep`` itself.

The speed of a shared machine drifts. So our side runs before and after the naive side, and its mean counts: a steady
drift cancels in the ratio. Both runs are shown. Before them, each side runs a few short trials that are not measured,
so that Python has compiled every module and the files are in the cache: the naive side starts a process for every
trial, and would pay for cold imports 32 times.

A forward hook on every model of either side counts the images that pass. The counts must agree except in the attack,
where ours does less work for the same outcome: an image that the clean model gets wrong is never attacked, and one that
is broken leaves the batch. The exit code is 1 if they do not.

The break-down of the wall time: ``start-up`` lasts from the process's start to the first image of the first trial,
``results`` from the end of the last trial to that of the process (ours draws its pictures there; the naive side draws
none). In between, each slot is training, attacking, or neither. The last is ``overhead``: the start of later workers,
data, checkpoints, reports, tracking, and waiting for the last trial.

All of these are wall times. Other work on the machine lengthens them, and not evenly: Ray lowers its workers' priority.
``CPU`` is the CPU time of all processes of a side, read every second. What a process uses after its last reading is
missed, which favours the side whose processes end more often.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
import numpy.typing as npt
import psutil

from search.config import load
from tests.benchmarks.workload import DATA, MEASUREMENTS, PASSES, Candidate, TrialMeasurement, Work
from trainables.data.partition.digests import prepare
from trainables.data.partition.pool import read_pool
from trainables.losses.i_sce import ISCE
from trainables.settings import DataSettings

REPOSITORY: Final = Path(__file__).parents[2]
QUICKSTART: Final = REPOSITORY / "tests" / "quickstart.yaml"
CONCURRENCY: Final = 2
OURS, NAIVE = "robustfront", "naive"
MODULES: Final = {OURS: "robustfront_sweep", NAIVE: "naive_sweep"}
ORDER: Final = (OURS, NAIVE, OURS)
PACKAGES: Final = ("torch", "torchvision", "torchattacks", "ray", "optuna", "mlflow")
# The two baselines and the paper's own setting are in every sweep.
FEWEST_TRIALS: Final = 3

# The same for both sides: no network, no Ray but their own, workers that find this package, and no environments that uv
# builds for the workers when this runs under ``uv run``.
ENVIRONMENT: Final = {
    "PYTHONPATH": str(REPOSITORY),
    "PYTHONWARNINGS": "ignore",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Tune asks for this when only the last result has the objectives.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}
POLL_SECONDS: Final = 1.0  # between two readings of the processes' CPU times
# PYTHONDONTWRITEBYTECODE would make every process compile all its imports, which doubles the cost of a process.
FOREIGN: Final = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True, kw_only=True)
class Side:
    """The times and counts of one side.

    Args:
        trials: Number of trials.
        trials_per_hour: By the wall time of its process.
        wall: Seconds from the process's start to its end.
        start_up: Seconds until the first image of the first trial.
        training: Seconds per trial.
        attack: Seconds per trial.
        overhead: Seconds per trial in which its slot did neither.
        results: Seconds from the end of the last trial to that of the process.
        processor: CPU seconds of all its processes, per trial.
        passes: Images through the models, by phase and direction.
        clean_accuracy: Mean over the trials, in [0, 1].
        robust_accuracy: Mean over the trials, in [0, 1].
    """

    trials: int
    trials_per_hour: float
    wall: float
    start_up: float
    training: float
    attack: float
    overhead: float
    results: float
    processor: float
    passes: Mapping[str, int]
    clean_accuracy: float
    robust_accuracy: float


def make_work(trials: int, *, deepfool: bool = False) -> Work:
    """The quickstart's work with PGD on cross entropy alone.

    Args:
        trials: Baselines included, at least 3.
        deepfool: Whether to attack with DeepFool too.
    """
    assert trials >= FEWEST_TRIALS
    config = load(QUICKSTART)
    data, training, robustness = config.data, config.train, config.robustness
    assert (config.model.name, training.optimizer.name, training.schedule) == ("lenet5", "adam", "cosine")
    assert (training.precision, training.replicates, robustness.eps_convention) == ("fp32", 1, "l2")
    prepared = prepare(data, test=False)
    settings: list[Candidate] = [{"loss": baseline.loss, **baseline.parameters} for baseline in ISCE.baselines]
    settings.append({"loss": "i-sce", **ISCE().reference})
    draws = np.random.default_rng(0).random((trials - len(settings), 2))
    settings += [{"loss": "i-sce", "s": round(1 + s, 4), "m": round(0.1 - 0.1 * m, 4)} for s, m in draws.tolist()]
    return Work(
        settings=settings,
        data=data.name,
        data_seed=data.seed,
        train_images=prepared.sizes["train"],
        validation_images=data.validation_size,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        seed=training.seed,
        images=robustness.images,
        attack_batch=robustness.batch_size,
        views=list(robustness.views),
        epsilon=robustness.epsilon,
        steps=robustness.attacks[0].steps,
        deepfool=deepfool,
        concurrency=CONCURRENCY,
    )


def tiny(work: Work) -> Work:
    """The same work shrunk to seconds, as a smoke test of both sides."""
    return replace(work, train_images=200, validation_images=100, epochs=2, images=20, steps=2)


def write_mnist(work: Work, folder: Path) -> None:
    """Writes the splits as torchvision's MNIST looks for them: training images, and validation images as its test set.

    Args:
        work: Names the data set and the splits.
        folder: The root for ``torchvision.datasets.MNIST``.
    """
    settings = DataSettings.from_document(
        {
            "name": work.data,
            "train_size": work.train_images,
            "validation_size": work.validation_images,
            "seed": work.data_seed,
        }
    )
    pool, size = read_pool(settings), settings.validation_size
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, prefix in ((pool[size:], "train"), (pool[:size], "t10k")):
        _write_idx(raw / f"{prefix}-images-idx3-ubyte", split.images[..., 0])
        _write_idx(raw / f"{prefix}-labels-idx1-ubyte", split.labels.astype(np.uint8))


def _write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """The format of MNIST's files: two zeros, 8 for bytes, the number of axes, each axis's length, the bytes."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())


def run(name: str, work: Work) -> Side:
    """Runs one side in its own folder."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        write_mnist(work, Path(folder) / DATA)
        return measure(MODULES[name], work, Path(folder))


def measure(module: str, work: Work, folder: Path) -> Side:
    """Runs one side in its own process.

    Args:
        module: Its module in this package.
        work: What it does.
        folder: An empty folder for everything that it writes.

    Raises:
        RuntimeError: The side failed; the message ends with the last of its output.
    """
    work.write(folder / "work.json")
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN} | ENVIRONMENT
    command = [sys.executable, "-m", f"{__package__}.{module}", str(folder / "work.json"), str(folder)]
    log = folder / "log.txt"
    with log.open("wb") as output:
        began = time.time()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        processor = watch(process)
        ended = time.time()
    code = process.returncode
    trials = TrialMeasurement.read_all(folder / MEASUREMENTS)
    if code != 0 or not _same([trial.setting for trial in trials], work.settings):
        end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise RuntimeError(
            f"{module} ended with code {code} after {len(trials)} of {len(work.settings)} trials:\n{end}"
        )
    return break_down(trials, work.concurrency, began, ended, processor)


def watch(process: subprocess.Popen[bytes]) -> float:
    """Waits for a process and returns the CPU seconds of the process and all its descendants."""
    seconds: dict[psutil.Process, float] = {}
    root = psutil.Process(process.pid)
    while True:
        with suppress(psutil.NoSuchProcess):
            for member in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = member.cpu_times()
                    seconds[member] = times.user + times.system
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return sum(seconds.values())


def _same(some: Sequence[Candidate], others: Sequence[Candidate]) -> bool:
    """Whether two lists have the same settings, in any order."""
    first, second = (
        Counter(json.dumps(dict(setting), sort_keys=True) for setting in list_) for list_ in (some, others)
    )
    return first == second


def break_down(
    trials: Sequence[TrialMeasurement], concurrency: int, began: float, ended: float, processor: float
) -> Side:
    """Where a side's time went; wall = start-up + results + trials (training + attack + overhead) / concurrency.

    Args:
        trials: What its trials measured.
        concurrency: Trials at a time.
        began: Unix time of the process's start.
        ended: Unix time of its end.
        processor: CPU seconds of all its processes.
    """
    n = len(trials)
    first, last = min(trial.started for trial in trials), max(trial.finished for trial in trials)
    training, attack = mean(trial.train_seconds for trial in trials), mean(trial.attack_seconds for trial in trials)
    return Side(
        trials=n,
        trials_per_hour=3600 * n / (ended - began),
        wall=ended - began,
        start_up=first - began,
        training=training,
        attack=attack,
        overhead=(last - first) * concurrency / n - training - attack,
        results=ended - last,
        processor=processor / n,
        passes={name: sum(trial.passes[name] for trial in trials) for name in PASSES},
        clean_accuracy=mean(trial.clean_accuracy for trial in trials),
        robust_accuracy=mean(trial.robust_accuracy for trial in trials),
    )


def averaged(runs: Sequence[Side]) -> Side:
    """A side's runs of the same work as one. Every time is their mean, so the times still add up to the wall time."""
    times = ("wall", "start_up", "training", "attack", "overhead", "results", "processor")
    means = {name: mean(getattr(run, name) for run in runs) for name in times}
    return replace(runs[0], trials_per_hour=3600 * runs[0].trials / means["wall"], **means)


def disagreements(work: Work, runs: Sequence[Side], naive: Side) -> list[str]:
    """Counts that differ from the work's, one sentence each; empty if the two sides are comparable.

    Our runs must also agree with each other, because their seeds are the same. DeepFool takes as many passes as an
    image needs, so with it the attacks' counts are not checked.
    """
    expected = work.passes()
    names = [name for name in PASSES if not (work.deepfool and name.startswith("attack"))]
    differences = [
        f"naive: {name} is {naive.passes[name]:,}, expected {expected[name]:,}"
        for name in names
        if naive.passes[name] != expected[name]
    ]
    for name in names:
        count = runs[0].passes[name]
        if count > expected[name] or (count < expected[name] and not name.startswith("attack")):
            differences.append(f"{OURS}: {name} is {count:,}, expected {expected[name]:,}")
    for what in ("passes", "clean_accuracy", "robust_accuracy"):
        values = [getattr(run, what) for run in runs]
        if any(value != values[0] for value in values):
            differences.append(f"{OURS}: {what} differs between the runs: {values}")
    return differences


def table(runs: Sequence[Side], naive: Side) -> str:
    """The comparison as text: our runs, their mean, the naive side, and how many times better the mean is."""
    columns = [*runs, averaged(runs), naive]
    rows: list[tuple[str, list[float], str]] = [
        ("trials per hour", [side.trials_per_hour for side in columns], ",.1f"),
        ("wall, s", [side.wall for side in columns], ",.1f"),
        ("  start-up, s", [side.start_up for side in columns], ",.1f"),
        ("  training, s per trial", [side.training for side in columns], ",.2f"),
        ("  attack, s per trial", [side.attack for side in columns], ",.2f"),
        ("  overhead, s per trial", [side.overhead for side in columns], ",.2f"),
        ("  results, s", [side.results for side in columns], ",.1f"),
        ("CPU, s per trial", [side.processor for side in columns], ",.2f"),
        *((f"{name}, images", [side.passes[name] for side in columns], ",d") for name in PASSES),
        ("clean accuracy, mean", [side.clean_accuracy for side in columns], ".3f"),
        ("robust accuracy, mean", [side.robust_accuracy for side in columns], ".3f"),
    ]
    titles = [*(f"run {number}" for number in range(1, len(runs) + 1)), OURS, NAIVE]
    lines = [f"{'':<26}" + "".join(f"{title:>12}" for title in titles) + f"{'ratio':>8}"]
    for title, values, form in rows:
        mine, theirs = values[-2:]
        top, bottom = (mine, theirs) if title == "trials per hour" else (theirs, mine)
        ratio = "" if "accuracy" in title or bottom <= 0 else f"{top / bottom:.2f}x"
        lines.append(f"{title:<26}" + "".join(f"{value:>12{form}}" for value in values) + f"{ratio:>8}")
    return "\n".join(lines)


_ATTACK_PASSES: Final = {"forward": "attack forward", "backward": "attack backward"}


def notes(work: Work, ours: Side, naive: Side) -> list[str]:
    """What the reader of the table must know."""
    saved = {direction: 1 - ours.passes[key] / naive.passes[key] for direction, key in _ATTACK_PASSES.items()}
    shares = " and ".join(f"{share:.0%} of the {direction} passes" for direction, share in saved.items())
    attacks = f"PGD-{work.steps} (cross entropy)" + (" and DeepFool" if work.deepfool else "")
    return [
        f"n = {ours.trials} trials per run, the runs in the order {', '.join(ORDER)}; {work.concurrency} trials at a "
        f"time with 1 torch thread each; LeNet-5 on {work.data} ({work.train_images} training, "
        f"{work.validation_images} validation images), {work.epochs} epochs of batches of {work.batch_size}; {attacks} "
        f"within {work.epsilon:g} on {work.images} images, "
        f"views {', '.join(work.views)}.",
        f"Our attacks save {shares}: images that are misclassified when clean are not attacked, "
        "and broken ones leave the batch.",
        "`results` includes our pictures; the naive side draws none. Robust accuracies differ because "
        "our attacks keep each image's best iterate and torchattacks' PGDL2 the last.",
    ]


def environment() -> dict[str, str]:
    """Hardware, versions, and the load before the measurement."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor_name(),
        "processors used": str(processors),
        "load before": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def processor_name() -> str:
    """The name of this machine's processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _pin(processors: int) -> None:
    """Keeps this process, and all processes that it starts, on the first few processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures both sides, in ``ORDER``; returns 1 if their counts of passes do not agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sweep_vs_naive")
    parser.add_argument("--trials", type=int, default=32, help="baselines included, at least 3 (default 32)")
    parser.add_argument("--deepfool", action="store_true", help="attack with DeepFool too")
    parser.add_argument("--tiny", action="store_true", help="3 short trials, as a smoke test")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to FILE")
    options = parser.parse_args(arguments)
    if options.trials < FEWEST_TRIALS:
        parser.error(f"--trials must be at least {FEWEST_TRIALS}, got {options.trials}; two of them are the baselines")
    _pin(CONCURRENCY)
    work = make_work(FEWEST_TRIALS if options.tiny else options.trials, deepfool=options.deepfool)
    if options.tiny:
        work = tiny(work)
    where = environment()
    if not options.tiny:
        print("warming up ...", file=sys.stderr, flush=True)
        for name in MODULES:
            run(name, tiny(replace(work, settings=work.settings[:FEWEST_TRIALS])))
    runs: dict[str, list[Side]] = {name: [] for name in MODULES}
    for name in ORDER:
        print(f"{name}: {len(work.settings)} trials ...", file=sys.stderr, flush=True)
        runs[name].append(run(name, work))
    ours, naive = averaged(runs[OURS]), averaged(runs[NAIVE])
    wrong = disagreements(work, runs[OURS], naive)
    print(table(runs[OURS], naive))
    print("\n".join(notes(work, ours, naive)))
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    unchecked = " (the attacks' are not checked: DeepFool's depend on the image)" if work.deepfool else ""
    print("\n".join(wrong) or f"The counts of passes agree with the work{unchecked}.")
    if options.json is not None:
        document = {
            "work": asdict(work),
            "expected_passes": work.passes(),
            "environment": where,
            "order": ORDER,
            OURS: asdict(ours),
            NAIVE: asdict(naive),
            "runs": {name: [asdict(run) for run in sides] for name, sides in runs.items()},
            "speed_up": ours.trials_per_hour / naive.trials_per_hour,
            "disagreements": wrong,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
