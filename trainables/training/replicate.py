"""One model in training, with everything that its future depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables.data.splits import Split
from trainables.defences import Defence
from trainables.models import build_model
from trainables.models.layers.features import Features, features_of
from trainables.settings import Problem, TrainSettings
from trainables.training.objective import Headed, Objective, head_of

# The streams of random numbers that derive from a replicate's seed. They are separate, so that another model or defence
# leaves the order of the images as it was.
_MODEL, _ORDER, _LOSS, _DEFENCE, _LAYERS = range(5)


@dataclass(frozen=True)
class ReplicateEpoch:
    """One epoch of one replicate: mean losses in nats, accuracies as fractions, wall time in seconds.

    The robust estimate is measured at rungs alone, and its time is part of ``seconds``.
    """

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    robust_estimate: float | None = None


@dataclass(eq=False)
class Replicate:
    """One model in training and all the state that its future depends on.

    The learning rate is a function of the epochs done, so the schedule has no state of its own.

    Args:
        seed: Its initial weights, its order of images and its defence's random numbers derive from it.
        model: From images to logits.
        loss: The loss's own module, from features, logits and labels to the mean over a batch.
        defence: What happens to a training step.
        features: Where the model's features are; None for a loss that does not use them.
        optimizer: Moves the parameters of model and loss.
        scaler: Scales the loss for fp16, whose gradients would underflow; disabled otherwise.
        generator: Draws permutations and augmentations, on the device.
        defence_generator: Draws what the defence needs, on the device.
        history: The epochs done.

    Attributes:
        objective: The training loss as a function of images and labels.
        network: From images to the logits that decide: the model, with the loss's head if it has one.
        predictor: What predictions and attacks see: the network as the defence wraps it.
    """

    seed: int
    model: nn.Module
    loss: nn.Module
    defence: Defence
    features: Features | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    defence_generator: torch.Generator
    history: list[ReplicateEpoch] = field(default_factory=list)

    objective: Objective = field(init=False)
    network: nn.Module = field(init=False)
    predictor: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.objective = Objective(self.model, self.loss, self.features)
        self.network = self.model if head_of(self.loss) is None else Headed(self.objective)
        self.predictor = self.defence.wrap(self.network)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs, in types that ``torch.load(weights_only=True)`` admits."""
        return {
            "seed": self.seed,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "defence_generator": self.defence_generator.get_state(),
            "history": [asdict(epoch) for epoch in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        Raises:
            ValueError: The state is that of another seed or another optimizer.
            RuntimeError: It is that of another model or loss.
        """
        if state["seed"] != self.seed:
            raise ValueError(
                f"the checkpoint must be that of replicate seed {self.seed}, got {state['seed']}; "
                "restore train.seed or choose another folder"
            )
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"])
        self.defence_generator.set_state(state["defence_generator"])
        self.history = [ReplicateEpoch(**epoch) for epoch in state["history"]]

    def layers_seed(self) -> int:
        """Seeds torch's global generators for the next epoch: layers such as dropout draw from nowhere else."""
        return _derived(self.seed, _LAYERS, self.epoch)


def replicate_seeds(settings: TrainSettings, replicates: Sequence[int] | None = None) -> tuple[int, ...]:
    """The replicates' seeds: the same for every candidate, and replicate r's whatever their number.

    Args:
        settings: What the seeds derive from.
        replicates: Which replicates, counted from 0; None for the first ``settings.replicates``.
    """
    indices = range(settings.replicates) if replicates is None else replicates
    return tuple(_derived(settings.seed, r) for r in indices)


def make_replicates(
    problem: Problem, splits: Mapping[str, Split], replicates: Sequence[int] | None = None
) -> list[Replicate]:
    """Untrained replicates of a problem. Random numbers are common: a seed's weights are the same for every loss.

    Args:
        problem: Model, loss, defence, and how they are trained.
        splits: The ``train`` split at least. It gives the images' shape, the number of classes, the colour statistics,
            and the device where the models live.
        replicates: Which replicates, as in ``replicate_seeds``.

    Returns:
        One replicate per seed.

    Raises:
        ValueError: The model cannot be built for these images, or the loss not for the model.
    """
    split = splits["train"]
    problem.model.check(_shape(split), classes_of(split))
    return [make_replicate(problem, split, seed) for seed in replicate_seeds(problem.train, replicates)]


def make_replicate(problem: Problem, split: Split, seed: int) -> Replicate:
    """One untrained replicate.

    Args:
        problem: Model, loss, defence, and how they are trained.
        split: The training images; the model lives on their device.
        seed: The replicate's, one of ``replicate_seeds``.

    Raises:
        ValueError: The model cannot be built for these images, or the loss not for the model.
    """
    device, shape, classes = split.images.device, _shape(split), classes_of(split)
    # Digits are used as they are; colour images are standardised inside the model.
    statistics = None
    if shape[0] > 1:
        deviation, mean = torch.std_mean(split.images, dim=(0, 2, 3))
        statistics = (mean.cpu(), deviation.cpu())
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(_derived(seed, _MODEL))
        model = build_model(problem.model, shape, classes, statistics)
        features = features_of(model, classes) if problem.loss.uses_features else None
        torch.default_generator.manual_seed(_derived(seed, _LOSS))
        loss = problem.loss.build(None if features is None else features.width, classes)
    model.to(device)
    loss.to(device)
    groups = [{"params": list(module.parameters())} for module in (model, loss)]
    return Replicate(
        seed=seed,
        model=model,
        loss=loss,
        defence=problem.defence,
        features=features,
        optimizer=problem.train.optimizer.build(
            [group for group in groups if group["params"]], problem.train.learning_rate
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=problem.train.precision == "fp16"),
        generator=torch.Generator(device).manual_seed(_derived(seed, _ORDER)),
        defence_generator=torch.Generator(device).manual_seed(_derived(seed, _DEFENCE)),
    )


def classes_of(split: Split) -> int:
    """The number of classes: what the data set says, otherwise one more than the highest label."""
    classes: int | None = getattr(split, "classes", None)
    return int(split.labels.max()) + 1 if classes is None else classes


def _shape(split: Split) -> tuple[int, int, int]:
    channels, height, width = split.images.shape[1:]
    return channels, height, width


def _derived(seed: int, *indices: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=indices).generate_state(1)[0])
