"""Trains and attacks on a GPU without Ray: throughput, memory, and agreement with the CPU.

    python -m tests.benchmarks.gpu

This prints a table and, as its last line, the same as JSON. Without a GPU it prints one line that says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import torch

from trainables.attacks.pgd import PGD
from trainables.data.splits import Split, load_splits
from trainables.losses.i_sce import ISCE
from trainables.registry import make
from trainables.robustness import Outcomes
from trainables.robustness.evaluate import evaluate
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings
from trainables.training.loop import train, training_step
from trainables.training.replicate import Replicate, make_replicates

AGREEMENT_STEPS = 5
NO_GPU = "no GPU: torch finds no CUDA device here, so there is nothing to measure (python -m tests.benchmarks.gpu)"

Splits = dict[str, Split]
T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """How much is measured: training images, batch size, timed epochs, attacked images, and attack steps."""

    train: int
    batch: int
    epochs: int
    attacked: int
    steps: int


FULL: Mapping[str, Size] = {
    "lenet5": Size(train=3500, batch=128, epochs=10, attacked=1000, steps=50),
    "resnet32": Size(train=10_000, batch=128, epochs=2, attacked=200, steps=20),
}
TINY: Mapping[str, Size] = {
    "lenet5": Size(train=60, batch=20, epochs=1, attacked=20, steps=2),
    "resnet32": Size(train=8, batch=4, epochs=1, attacked=10, steps=1),
}


@dataclass(frozen=True)
class Measurement:
    """One model at one precision.

    Args:
        model: The architecture.
        data: The images it saw.
        precision: Precision of the training; attacks always run in fp32.
        train_images: Images of the timed training, over all epochs.
        train_images_per_second: The time includes the validation after each epoch.
        attack_gradients: Input gradients of the attack, one per image and step.
        attack_gradients_per_second: These divided by the attack's seconds.
        peak_memory_mib: Most memory that torch had allocated on the device; None on a CPU.
        loss_difference: Largest relative difference from the CPU's loss over the first steps, from the same weights
            and batches.
        kept_agreement: Share of images with the same outcome as on the CPU, under the same attack on the same weights.
    """

    model: str
    data: str
    precision: str
    train_images: int
    train_images_per_second: float
    attack_gradients: int
    attack_gradients_per_second: float
    peak_memory_mib: float | None
    loss_difference: float
    kept_agreement: float


def measure(name: str, size: Size, precision: str, device: torch.device) -> Measurement:
    """Trains, attacks and compares with the CPU."""
    problem, host = _problem(name, size, precision)
    splits = {key: Split(split.images.to(device), split.labels.to(device)) for key, split in host.items()}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    loss_difference = _loss_difference(problem, host, splits)

    (replicate,) = make_replicates(problem, splits)
    epochs = train([replicate], splits, problem)
    next(epochs)  # The first epoch also chooses kernels and reserves memory.
    train_seconds, _ = _timed(lambda: list(epochs), device)
    _attack(replicate, splits, problem)
    attack_seconds, outcomes = _timed(lambda: _attack(replicate, splits, problem), device)
    gradients = int(outcomes.passes[..., 1].sum())
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None

    (twin,) = make_replicates(problem, host)
    twin.model.load_state_dict(replicate.model.state_dict())
    on_host = _attack(twin, host, problem)
    images = size.train * size.epochs
    return Measurement(
        model=name,
        data="mnist5k" if name == "lenet5" else "noise of CIFAR-10's shape",
        precision=precision,
        train_images=images,
        train_images_per_second=images / train_seconds,
        attack_gradients=gradients,
        attack_gradients_per_second=gradients / attack_seconds,
        peak_memory_mib=peak,
        loss_difference=loss_difference,
        kept_agreement=float((outcomes.kept == on_host.kept).mean()),
    )


def _problem(name: str, size: Size, precision: str) -> tuple[Problem, Splits]:
    problem = Problem(
        data=DataSettings(train_size=size.train, validation_size=max(size.attacked, 10)),
        model=make("model", name),
        loss=ISCE(),
        train=TrainSettings(
            epochs=size.epochs + 1,
            batch_size=size.batch,
            learning_rate=4e-3,
            schedule="cosine",
            precision=precision,  # type: ignore[arg-type]
        ),
        robustness=RobustnessSettings(
            attacks=(
                PGD(steps=size.steps),
                PGD(loss="dlr", steps=size.steps),
            ),
            epsilon=1.5 if name == "lenet5" else 0.5,
            images=size.attacked,
            batch_size=500,
        ),
    )
    if name == "lenet5":
        return problem, load_splits(problem.data)
    generator = torch.Generator().manual_seed(0)

    def noise(n: int) -> Split:
        """Images whose brightness depends on the class, so that there is something to learn and to attack."""
        labels = torch.randint(10, (n,), generator=generator)
        images = 0.5 * torch.rand(n, 3, 32, 32, generator=generator) + 0.05 * labels[:, None, None, None]
        return Split(images.contiguous(memory_format=torch.channels_last), labels)

    return problem, {"train": noise(size.train), "validation": noise(problem.data.validation_size)}


def _loss_difference(problem: Problem, host: Splits, splits: Splits) -> float:
    """Weights depend on the seed and not on the device, so only the batches must be made equal."""
    (on_host,), (on_device,) = make_replicates(problem, host), make_replicates(problem, splits)
    size = problem.train.batch_size

    def step(replicate: Replicate, split: Split, start: int) -> float:
        batch = split[start : start + size]
        return training_step(replicate, batch.images, batch.labels, problem.train, progress=0.0).item()

    differences = []
    for start in range(0, min(AGREEMENT_STEPS * size, len(host["train"])), size):
        expected = step(on_host, host["train"], start)
        differences.append(abs(step(on_device, splits["train"], start) - expected) / abs(expected))
    return max(differences)


def _attack(replicate: Replicate, splits: Splits, problem: Problem) -> Outcomes:
    return evaluate([replicate.predictor], splits["validation"], problem.robustness, [replicate.seed])


def _timed(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def environment(device: torch.device) -> dict[str, str]:
    """Hardware and versions."""
    return {
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "tf32_convolutions": str(torch.backends.cudnn.allow_tf32),
    }


def table(measurements: Sequence[Measurement]) -> str:
    """The measurements as text, one column each."""
    rows = [
        ("", [f"{m.model} {m.precision}" for m in measurements]),
        ("training, images/s", [f"{m.train_images_per_second:,.0f}" for m in measurements]),
        ("  n images", [f"{m.train_images:,}" for m in measurements]),
        ("attack, gradients/s", [f"{m.attack_gradients_per_second:,.0f}" for m in measurements]),
        ("  n gradients", [f"{m.attack_gradients:,}" for m in measurements]),
        ("peak memory, MiB", [f"{m.peak_memory_mib:,.0f}" if m.peak_memory_mib else "-" for m in measurements]),
        ("loss against CPU, largest relative difference", [f"{m.loss_difference:.1e}" for m in measurements]),
        ("attacked images with the CPU's outcome", [f"{m.kept_agreement:.1%}" for m in measurements]),
    ]
    return "\n".join(f"{title:<46}" + "".join(f"{cell:>16}" for cell in cells) for title, cells in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures LeNet-5 in fp32 and ResNet-32 in fp32 and bf16; returns 0 even without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="only a few images, as a smoke test")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return 0
    device = torch.device(options.device)
    sizes = TINY if options.tiny else FULL
    cases = (("lenet5", "fp32"), ("resnet32", "fp32"), ("resnet32", "bf16"))
    measurements = [measure(name, sizes[name], precision, device) for name, precision in cases]
    where = environment(device)
    print(table(measurements))
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    print(json.dumps({"environment": where, "measurements": [asdict(measurement) for measurement in measurements]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
