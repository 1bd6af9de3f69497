"""Models and evaluations of which it is known whether the number that comes out can be believed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import torch
from torch import Tensor, nn

from tests.trainables.reference_models import reference_model
from tests.trainables.victims import Scaled
from trainables.attacks import Attack, attack_seed
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.pgd import PGD
from trainables.attacks.torchattacks import Torchattacks
from trainables.audit import Audit, Claim, audit, cheap_claim
from trainables.data.splits import Split, load_splits
from trainables.losses.cross_entropy import cross_entropy
from trainables.settings import DataSettings, View

Data = Literal["mnist5k", "fashion-mnist"]

RADII: Final[dict[Data, float]] = {"mnist5k": 1.5, "fashion-mnist": 0.5}
IMAGES: Final = 500

PGD_CE: Final = PGD()
ONE_STEP: Final = PGD(steps=1)
DEEPFOOL: Final = DeepFool()


@dataclass(frozen=True)
class Pair:
    """A number and its evaluation.

    Args:
        name: Of the claim.
        attacks: What is behind it; None for the worst case of the audit's own cheap evaluation.
        views: The logits that the attacks see.
        sound: Whether it can be believed.
    """

    name: str
    attacks: tuple[Attack, ...] | None = None
    views: tuple[View, ...] = ("raw",)
    sound: bool = False


WORST: Final = Pair("worst case", sound=True)
ONE_STEP_ALONE: Final = Pair("one step", (ONE_STEP,))

# By model: the pairs that one audit judges.
SOUND_MODELS: Final[dict[str, tuple[Pair, ...]]] = {
    "cross entropy": (WORST, ONE_STEP_ALONE),
    "label smoothing": (WORST,),
    "adversarially trained": (WORST,),
    "I-SCE": (WORST, Pair("DeepFool on f", (DEEPFOOL,), ("normalized",))),
}
MASKED_MODELS: Final[dict[str, tuple[Pair, ...]]] = {
    "logits x 1000": (Pair("PGDL2", (Torchattacks(attack="PGDL2", options={"steps": 50}),)),),
    "quantised input": (Pair("PGD", (PGD_CE,)),),
    "k winners take all": (Pair("PGD", (PGD_CE,)),),
    "noise at inference": (Pair("PGD", (PGD_CE,)),),
    "saturated logits": (Pair("PGD", (PGD_CE,)),),
}
MODELS: Final = SOUND_MODELS | MASKED_MODELS


def audited(name: str, data: Data, seed: int) -> Iterator[tuple[Pair, Audit, int]]:
    """The quick audit of all pairs of a model: each pair, the audit, and the position of the pair's verdict in it."""
    model, split = planted_model(name, data, seed)
    images, labels, radius = split.images[:IMAGES], split.labels[:IMAGES], RADII[data]
    claims = [claim(pair, model, images, labels, radius, seed) for pair in MODELS[name]]
    result = audit(model, images, labels, claims, radius=radius, seed=attack_seed(seed, "audit"))
    for position, pair in enumerate(MODELS[name]):
        yield pair, result, position


def claim(pair: Pair, model: nn.Module, images: Tensor, labels: Tensor, radius: float, seed: int) -> Claim:
    """What the pair's evaluation claims."""
    if pair.attacks is None:
        return cheap_claim(model, images, labels, radius=radius, seed=seed, name=pair.name)
    return cheap_claim(
        model, images, labels, radius=radius, seed=seed, attacks=pair.attacks, views=pair.views, name=pair.name
    )


def planted_model(name: str, data: Data, seed: int) -> tuple[nn.Module, Split]:
    """A LeNet-5 of the named kind, in evaluation mode, and 1,000 images."""
    if name == "I-SCE":
        return reference_model(data, "i-sce", seed)
    base, split = reference_model(data, "sce", seed)
    if name == "cross entropy":
        return base, split
    if name in ("label smoothing", "adversarially trained", "k winners take all"):
        return _tuned(name, data, seed), split
    wrapped = {
        "logits x 1000": lambda: Scaled(base, 1000.0),
        "quantised input": lambda: nn.Sequential(Quantised(8), *base),
        "noise at inference": lambda: nn.Sequential(Noisy(0.2), *base),
        "saturated logits": lambda: nn.Sequential(*base, Saturated()),
    }[name]()
    return wrapped.eval(), split


class Quantised(nn.Module):
    """Pixels rounded to so many grey levels: no gradient passes."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.steps = levels - 1

    def forward(self, images: Tensor) -> Tensor:
        return torch.round(images * self.steps) / self.steps


class Noisy(nn.Module):
    """Fresh Gaussian noise on every image each time."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return images + self.size * torch.randn_like(images)


class Saturated(nn.Module):
    """Logits that no longer move in fp32 once they are large."""

    def forward(self, logits: Tensor) -> Tensor:
        return 10 * torch.tanh(logits)


class WinnersTakeAll(nn.Module):
    """Only the largest share of each image's activations passes (Xiao et al. 2020): jumps wherever the winners change.

    Args:
        share: In (0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1]))).values[:, -1:]
        return torch.where(flat >= least, flat, torch.zeros_like(flat)).view_as(values)


@cache
def _tuned(name: str, data: Data, seed: int) -> nn.Module:
    """The network trained with SCE, trained on for a few epochs in another way."""
    base, _ = reference_model(data, "sce", seed)
    splits = load_splits(DataSettings.from_document({"name": data, "train_size": 3500, "validation_size": 1000}), "cpu")
    images, labels = splits["train"].images, splits["train"].labels
    model = copy.deepcopy(base)
    if name == "k winners take all":
        model = nn.Sequential(*(WinnersTakeAll(0.1) if isinstance(layer, nn.ReLU) else layer for layer in model))
    model.train().requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
    adversary = PGD(steps=4)
    for epoch in range(4):
        for step, rows in enumerate(torch.randperm(len(images), generator=generator).split(64)):
            batch, true = images[rows], labels[rows]
            if name == "adversarially trained":
                batch = adversary(model, batch, true, radius=RADII[data], seed=1000 * epoch + step).adversarial
            logits = model(batch)
            loss = cross_entropy(logits, true)
            if name == "label smoothing":
                loss = 0.9 * loss - 0.1 * logits.log_softmax(1).mean()
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for parameter, gradient, speed in zip(model.parameters(), gradients, velocity, strict=True):
                speed.mul_(0.9).add_(gradient)
                parameter.data -= 0.01 * speed
    return model.eval()
