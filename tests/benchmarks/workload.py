"""What both sides of ``sweep_vs_naive`` read and write: the work, the counter of passes, a trial's measurements.

Only the standard library is imported, so that reading the work costs neither side anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

TRAINING, VALIDATION, ATTACK = "training", "validation", "attack"
PASSES: Final = ("training forward", "training backward", "validation forward", "attack forward", "attack backward")

# In each side's folder: the measurements of its trials, and the images as torchvision's MNIST reads them.
MEASUREMENTS: Final = "measurements"
DATA: Final = "data"

Candidate = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Work:
    """One sweep: LeNet-5 with Adam and a cosine schedule, then L2 PGD on cross entropy.

    Args:
        settings: Each trial's ``loss`` (``cross-entropy`` or ``i-sce``) and its parameters, in the order of the trials.
        data: The data set.
        data_seed: Seed of its split.
        train_images: Images of the training split.
        validation_images: Images of the validation split.
        epochs: Passes over the training split.
        batch_size: Images per training step.
        learning_rate: The initial one.
        seed: Seed of every trial.
        images: Number of validation images to attack, the first ones.
        attack_batch: Images per attack step.
        views: The logits that attacks see: ``normalized``, ``raw``.
        epsilon: L2 radius, in pixel units.
        steps: Steps of PGD, each 2.5 epsilon / steps long.
        deepfool: Whether torchattacks' DeepFool also runs on every view.
        concurrency: Trials at a time, each on one processor with one torch thread.
    """

    settings: Sequence[Candidate]
    data: str
    data_seed: int
    train_images: int
    validation_images: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    images: int
    attack_batch: int
    views: Sequence[str]
    epsilon: float
    steps: int
    deepfool: bool
    concurrency: int

    @property
    def step_size(self) -> float:
        """Length of a step of PGD, in pixel units."""
        return 2.5 * self.epsilon / self.steps

    def passes(self) -> dict[str, int]:
        """The expected images through the models if every attacked image stays for every step, without DeepFool's.

        Each trial measures clean accuracy once more after its last epoch, and checks every attacked image after its
        last step.
        """
        attacked = self.images * len(self.views)
        per_trial = (
            self.epochs * self.train_images,
            self.epochs * self.train_images,
            self.epochs * self.validation_images,
            self.validation_images + attacked * (self.steps + 1),
            attacked * self.steps,
        )
        return {name: len(self.settings) * count for name, count in zip(PASSES, per_trial, strict=True)}

    def write(self, path: Path) -> None:
        """Writes JSON."""
        path.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Work:
        """Reads what ``write`` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class PassCounter:
    """Counts the images that go through a model, forward and backward, by phase.

    A model in training mode counts as training; otherwise ``phase`` decides.
    """

    def __init__(self) -> None:
        self.phase = VALIDATION
        self.passes = dict.fromkeys(PASSES, 0)
        self.first: float | None = None
        """Unix time of the first pass."""

    def attach(self, model: Any) -> Any:
        """Starts counting the images through ``model``, a torch module, and returns it."""
        model.register_forward_hook(self._forward)
        return model

    def _forward(self, model: Any, inputs: Any, logits: Any) -> None:
        del inputs
        self.first = self.first or time.time()
        phase = TRAINING if model.training else self.phase
        self.passes[f"{phase} forward"] += len(logits)
        if logits.requires_grad:

            def backward(gradient: Any) -> None:
                self.passes[f"{phase} backward"] += len(gradient)

            logits.register_hook(backward)


@dataclass(frozen=True, kw_only=True)
class TrialMeasurement:
    """One trial as its own process measured it.

    Args:
        setting: Its loss and parameters.
        passes: Images by phase and direction.
        started: Unix time at which the first image passed.
        finished: Unix time of its end.
        train_seconds: All epochs, each with its validation, without checkpoints and reports.
        attack_seconds: Clean accuracy and all attacks.
        clean_accuracy: On the validation split, in [0, 1].
        robust_accuracy: Share of attacked images that survive every attack on every view, in [0, 1].
    """

    setting: Candidate
    passes: Mapping[str, int]
    started: float
    finished: float
    train_seconds: float
    attack_seconds: float
    clean_accuracy: float
    robust_accuracy: float

    def write(self, path: Path) -> None:
        """Writes JSON atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def read_all(cls, folder: Path) -> list[TrialMeasurement]:
        """Reads every trial that was written to ``folder``, in the order of their starts."""
        trials = [cls(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
        return sorted(trials, key=lambda trial: trial.started)
