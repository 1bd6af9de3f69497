"""A trial of the naive side, written like the libraries' own examples; see ``naive_sweep``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchattacks
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from tests.benchmarks.workload import Candidate, Work

TEST_BATCH = 1000  # as in pytorch/examples, mnist/main.py
ROUNDING = 1e-4  # share of the radius by which an image may lie outside and still count, as on our side

Batches = Iterable[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


class LeNet5(nn.Module):
    """LeNet-5 for 28x28 digits, (n, 1, 28, 28) to logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class NormalizedLogits(nn.Module):
    """A model whose logits have unit L2 norm: the other view that attacks get."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.model(x))


def make_loss(setting: Candidate) -> Loss:
    """Cross entropy, or I-SCE as its paper writes it (Song et al. 2022, Eq. 2-4)."""
    if setting["loss"] == "cross-entropy":
        return nn.CrossEntropyLoss()
    s, m = setting["s"], setting["m"]

    def i_sce(logits: Tensor, target: Tensor) -> Tensor:
        f = F.normalize(logits)
        return F.cross_entropy(f + F.one_hot(target, f.shape[1]) * ((s - 1) * f + m), target)

    return i_sce


def get_data_loaders(folder: Path, work: Work) -> tuple[Batches, Batches, Batches]:
    """Loaders of the training images, the validation images, and those that are attacked."""
    train_set = datasets.MNIST(folder, train=True, transform=transforms.ToTensor())
    validation_set = datasets.MNIST(folder, train=False, transform=transforms.ToTensor())
    return (
        DataLoader(train_set, batch_size=work.batch_size, shuffle=True),
        DataLoader(validation_set, batch_size=TEST_BATCH),
        DataLoader(Subset(validation_set, range(work.images)), batch_size=work.attack_batch),
    )


def make_optimizer(model: nn.Module, work: Work, steps: int) -> tuple[Optimizer, LRScheduler]:
    """Adam, and its cosine schedule over all ``steps`` of the training."""
    optimizer = torch.optim.Adam(model.parameters(), lr=work.learning_rate)
    return optimizer, CosineAnnealingLR(optimizer, T_max=steps)


def train_func(model: nn.Module, loss: Loss, optimizer: Optimizer, scheduler: LRScheduler, batches: Batches) -> float:
    """One epoch; returns the mean training loss."""
    model.train()
    total, count = 0.0, 0
    for data, target in batches:
        optimizer.zero_grad()
        value = loss(model(data), target)
        value.backward()
        optimizer.step()
        scheduler.step()
        total += value.item() * len(target)
        count += len(target)
    return total / count


@torch.no_grad()
def validate_func(model: nn.Module, loss: Loss, batches: Batches) -> tuple[float, Tensor]:
    """Mean loss, and whether each image is classified correctly."""
    model.eval()
    total, correct = 0.0, []
    for data, target in batches:
        output = model(data)
        total += loss(output, target).item() * len(target)
        correct.append(output.argmax(1) == target)
    outcomes = torch.cat(correct)
    return total / len(outcomes), outcomes


def attack_func(model: nn.Module, batches: Batches, work: Work) -> Tensor:
    """Whether each image survives every attack on every view."""
    survived = torch.ones(work.images, dtype=torch.bool)
    for view in work.views:
        victim = (NormalizedLogits(model) if view == "normalized" else model).eval()
        attacks = [torchattacks.PGDL2(victim, eps=work.epsilon, alpha=work.step_size, steps=work.steps)]
        if work.deepfool:
            attacks.append(torchattacks.DeepFool(victim))
        for attack in attacks:
            kept = []
            for images, labels in batches:
                adversarial = attack(images, labels)
                with torch.no_grad():
                    correct = victim(adversarial).argmax(1) == labels
                # DeepFool has no radius: an image that needs more, or becomes NaN, has survived.
                change = torch.linalg.vector_norm((adversarial - images).flatten(1), dim=1)
                within = change <= work.epsilon * (1 + ROUNDING)
                kept.append(correct | ~within)
            survived &= torch.cat(kept)
    return survived
