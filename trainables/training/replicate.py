"""One model in training, with everything that its future depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.splits import Split
from trainables.defences import Defence
from trainables.logits import at_least_single
from trainables.models import build_model
from trainables.models.layers.features import Features, features_of
from trainables.settings import Problem, TrainSettings

# The streams of random numbers that derive from a replicate's seed. They are separate, so that another model or defence
# leaves the order of the images as it was.
_MODEL, _ORDER, _LOSS, _DEFENCE, _LAYERS = range(5)

# What a checkpoint holds of a replicate, beside its seed and history.
_STATEFUL: Final = ("model", "loss", "optimizer", "scaler")
_GENERATORS: Final[Mapping[str, int]] = {"generator": _ORDER, "defence_generator": _DEFENCE}


class Objective(nn.Module):
    """From images and labels to the training loss; ``features`` is None for a loss that does not use them."""

    def __init__(self, model: nn.Module, loss: nn.Module, features: Features | None) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.features = features

    @property
    def head(self) -> Callable[[Tensor | None], Tensor] | None:
        """What computes the deciding logits from the features, if the loss does so."""
        head: Callable[[Tensor | None], Tensor] | None = getattr(self.loss, "head", None)
        return head

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of images (n, c, h, w) and labels (n,)."""
        return self.value(*self.outputs(images), labels)

    def outputs(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Features (n, d), if the loss uses them, and the model's logits (n, k)."""
        return (None, self.model(images)) if self.features is None else self.features.pass_through(images)

    def value(self, features: Tensor | None, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch's outputs, in fp32 outside autocast.

        Raises:
            ValueError: The loss returned more than one number.
        """
        with torch.autocast(logits.device.type, enabled=False):
            value: Tensor = self.loss(_single(features), at_least_single(logits), labels)
        if value.dim() > 0:
            raise ValueError(f"loss must return one number, got a tensor of shape {tuple(value.shape)}; take its mean")
        return value

    def decisive(self, features: Tensor | None, logits: Tensor) -> Tensor:
        """The logits that decide: those of the loss's head if it has one, otherwise the model's."""
        if self.head is None:
            return logits
        with torch.autocast(logits.device.type, enabled=False):
            return self.head(_single(features))


class Headed(nn.Module):
    """A model whose classifier is replaced by the loss's head."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, images: Tensor) -> Tensor:
        return self.objective.decisive(*self.objective.outputs(images))


@dataclass(frozen=True)
class ReplicateEpoch:
    """One epoch of one replicate: mean losses in nats, accuracies as fractions, wall time in seconds."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    robust_estimate: float | None = None  # measured only at rungs; its time is part of ``seconds``
    selection_accuracy: float | None = None  # robust accuracy that selects the best epoch; its time is included too


@dataclass(eq=False)
class Replicate:
    """One model in training and all the state that its future depends on.

    The learning rate is a function of the epochs done, so the schedule has no state of its own.

    Attributes:
        objective: The training loss as a function of images and labels.
        network: From images to the logits that decide: the model, with the loss's head if it has one.
        predictor: What predictions and attacks see: the network as the defence wraps it.
    """

    seed: int  # initial weights, the order of images and the defence's random numbers derive from it
    model: nn.Module
    loss: nn.Module  # the loss's own module
    defence: Defence
    features: Features | None  # where the model's features are; None for a loss that does not use them
    optimizer: torch.optim.Optimizer  # of the parameters of model and loss
    scaler: torch.amp.GradScaler  # for fp16, whose gradients would underflow; disabled otherwise
    generator: torch.Generator  # of permutations and augmentations, on the device
    defence_generator: torch.Generator  # of what the defence draws, on the device
    history: list[ReplicateEpoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.objective = Objective(self.model, self.loss, self.features)
        self.network = self.model if self.objective.head is None else Headed(self.objective)
        self.predictor = self.defence.wrap(self.network)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest ``selection_accuracy``, counted from 1; 0 without any."""
        values = [-1.0 if row.selection_accuracy is None else row.selection_accuracy for row in self.history]
        best = max(values, default=-1.0)
        return values.index(best) + 1 if best >= 0 else 0

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``load_state_dict`` needs, in types that ``torch.load(weights_only=True)`` admits."""
        modules = {name: getattr(self, name).state_dict() for name in _STATEFUL}
        generators = {name: getattr(self, name).get_state() for name in _GENERATORS}
        return {"seed": self.seed, **modules, **generators, "history": [asdict(epoch) for epoch in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a saved state.

        The state of a random generator fits only the kind of device that it was saved on. On another kind, the streams
        start again from the seed and the epoch (`streams_fit`).

        Raises:
            ValueError: The state is that of another seed or another optimizer.
            RuntimeError: It is that of another model or loss.
        """
        if state["seed"] != self.seed:
            raise ValueError(
                f"the checkpoint must be that of replicate seed {self.seed}, got {state['seed']}; "
                "restore train.seed or choose another folder"
            )
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        self.history = [ReplicateEpoch(**epoch) for epoch in state["history"]]
        for name, stream in _GENERATORS.items():
            generator: torch.Generator = getattr(self, name)
            if self.streams_fit(state):
                generator.set_state(state[name])
            else:
                generator.manual_seed(_derived(self.seed, stream, self.epoch))

    def streams_fit(self, state: Mapping[str, Any]) -> bool:
        """Whether a saved state is of this kind of device, so that its random streams can continue."""
        return all(state[name].shape == getattr(self, name).get_state().shape for name in _GENERATORS)

    def layers_seed(self) -> int:
        """Seeds torch's global generators for the next epoch: layers such as dropout draw from nowhere else."""
        return _derived(self.seed, _LAYERS, self.epoch)


def replicate_seeds(settings: TrainSettings, replicates: Sequence[int] | None = None) -> tuple[int, ...]:
    """The seeds of replicates (by their numbers from 0, or all of the settings'), the same for every candidate."""
    indices = range(settings.replicates) if replicates is None else replicates
    return tuple(_derived(settings.seed, r) for r in indices)


def make_replicates(
    problem: Problem, splits: Mapping[str, Split], replicates: Sequence[int] | None = None
) -> list[Replicate]:
    """Untrained replicates of a problem, one per seed; a seed's weights are the same for every loss.

    Args:
        splits: The ``train`` split at least, on the device where the models are to live.
        replicates: As for `replicate_seeds`.

    Raises:
        ValueError: Model, loss or defence does not fit these images, or the loss not the model.
    """
    split = splits["train"]
    problem.check(_shape(split), split.classes)
    return [make_replicate(problem, split, seed) for seed in replicate_seeds(problem.train, replicates)]


def make_replicate(problem: Problem, split: Split, seed: int) -> Replicate:
    """One untrained replicate, as ``make_replicates`` makes them for the training images ``split``."""
    device, shape, classes = split.images.device, _shape(split), split.classes
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
        loss = problem.loss.build(None if features is None else features.classifier.in_features, classes)
    model.to(device)
    loss.to(device)
    groups = [{"params": parameters} for module in (model, loss) if (parameters := list(module.parameters()))]
    return Replicate(
        seed=seed,
        model=model,
        loss=loss,
        defence=problem.defence,
        features=features,
        optimizer=problem.train.optimizer.build(groups, problem.train.learning_rate),
        scaler=torch.amp.GradScaler(device.type, enabled=problem.train.precision == "fp16"),
        generator=torch.Generator(device).manual_seed(_derived(seed, _ORDER)),
        defence_generator=torch.Generator(device).manual_seed(_derived(seed, _DEFENCE)),
    )


def _single(features: Tensor | None) -> Tensor | None:
    return None if features is None else at_least_single(features)


def _shape(split: Split) -> tuple[int, int, int]:
    channels, height, width = split.images.shape[1:]
    return channels, height, width


def _derived(seed: int, *indices: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=indices).generate_state(1)[0])
