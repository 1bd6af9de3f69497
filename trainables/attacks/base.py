"""What every attack shares: the ball, the box, the judgement, and the model left as it was found.

An attack is asked for one thing: images inside the L2 ball and the pixel box whose predicted label is no longer the
true one. Only images that the clean model gets right are attacked. An image is broken as soon as any point that the
attack looks at is misclassified, so the outcome is each image's best iterate and never merely the last one.

Two ways to write an attack:

- `StepAttack`: write ``step`` (and ``start``). The base projects, clips, runs the model, judges every iterate with the
  forward pass that the step's gradient needs anyway, and lets broken images leave the batch at once.
- `Attack`: write ``run``, for attacks that own their loop.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from trainables.losses import normalize_logits
from trainables.settings import View

_VIEWS: Final[dict[View, Callable[[Tensor], Tensor]]] = {"normalized": normalize_logits, "raw": lambda logits: logits}


@dataclass(frozen=True)
class AttackResult:
    """What one attack did to n images.

    Args:
        kept: Whether the label survived, bool (n,); False for an image that the clean model gets wrong, or that was not
            standing any more.
        adversarial: The misclassified image where the attack broke it, the clean image elsewhere, (n, c, h, w).
        forward_passes: Images that went forward through the model (each image of each batch counts one).
        backward_passes: Images that went backward.
    """

    kept: Tensor
    adversarial: Tensor
    forward_passes: int
    backward_passes: int


class Victim(nn.Module):
    """The model as an attack sees it: logits in one view, every image that passes counted.

    Args:
        model: Maps images (n, c, h, w) to logits z (n, k).
        view: The logits that ``forward`` returns: ``normalized`` f = z / ||z||, or ``raw`` z.
    """

    def __init__(self, model: nn.Module, view: View) -> None:
        super().__init__()
        self.model = model
        self.view = _VIEWS[view]
        self.forward_passes = 0
        self.backward_passes = 0

    def logits(self, images: Tensor) -> Tensor:
        """The raw logits z (n, k), which decide: rounding can tie two entries of f whose z differ."""
        self.forward_passes += len(images)
        logits: Tensor = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """The logits in the view, (n, k)."""
        return self.view(self.logits(images))

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


@dataclass
class Batch:
    """Images under attack, one a row.

    Args:
        clean: Where they started, (b, c, h, w).
        labels: True labels, (b,).
        clean_logits: The clean images' logits z, (b, k).
        images: The present iterates, (b, c, h, w), inside ball and box.
        index: Each image's position in the caller's images, (b,).
        radius: L2 radius of the ball, in pixel units.
        memory: What an attack remembers of each image from step to step, first axis b (a momentum, a step size, ...).
    """

    clean: Tensor
    labels: Tensor
    clean_logits: Tensor
    images: Tensor
    index: Tensor
    radius: float
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: slice | Tensor) -> Batch:
        """The batch of some rows: a slice, positions or a mask."""
        return Batch(
            self.clean[rows],
            self.labels[rows],
            self.clean_logits[rows],
            self.images[rows],
            self.index[rows],
            self.radius,
            {name: values[rows] for name, values in self.memory.items()},
        )

    def split(self, size: int) -> list[Batch]:
        """Batches of at most ``size`` rows that share this one's storage."""
        return [self.take(slice(begin, begin + size)) for begin in range(0, len(self), size)]


def join(batches: list[Batch]) -> Batch:
    """One batch of all rows, in order; the inverse of `Batch.split`."""
    return Batch(
        torch.cat([batch.clean for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.clean_logits for batch in batches]),
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.index for batch in batches]),
        batches[0].radius,
        {name: torch.cat([batch.memory[name] for batch in batches]) for name in batches[0].memory},
    )


class Attack(ABC):
    """The contract: images in, per-image outcome out, nothing else in the process changed."""

    scale_free = False
    """Whether the attack does the same on f as on z, since no scale of an image's logits changes its steps."""

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        radius: float,
        view: View = "raw",
        seed: int = 0,
        batch_size: int = 128,
        logits: Tensor | None = None,
        standing: Tensor | None = None,
    ) -> AttackResult:
        """Attack every image that the model gets right.

        The model's modes, flags, gradients and buffers and the process's random states are the same afterwards.

        Args:
            model: Maps images to logits z (n, k).
            images: (n, c, h, w), fp32 in [0, 1], on the model's device.
            labels: (n,), int64.
            radius: L2 radius of the ball, above 0, in pixel units.
            view: The logits that the attack sees.
            seed: In [0, 2^32). What is drawn for image i depends on the seed and i alone.
            batch_size: Images a pass.
            logits: The clean logits z (n, k) where they are known; None to compute them.
            standing: Which images are still to be attacked, bool (n,); the others count as broken, and the clean image
                stands for them. None for all of them.

        Raises:
            ValueError: The attack cannot run on this many classes.
        """
        victim = Victim(model, view)
        images = images.detach().contiguous(memory_format=torch.channels_last)
        with untouched(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            clean_logits = predict(victim.logits, images, batch_size) if logits is None else logits
            kept = clean_logits.argmax(1) == labels
            if standing is not None:
                kept &= standing
            adversarial = images.clone(memory_format=torch.channels_last)
            index = kept.nonzero().squeeze(1)
            if len(index):
                batch = Batch(
                    clean=images[index],
                    labels=labels[index],
                    clean_logits=clean_logits[index],
                    images=images[index],
                    index=index,
                    radius=radius,
                )
                for broken in self.run(victim, batch, seed=seed, batch_size=batch_size):
                    kept[broken.index] = False
                    adversarial[broken.index] = broken.images
        return AttackResult(kept, adversarial, victim.forward_passes, victim.backward_passes)

    @abstractmethod
    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Attack images that are all classified correctly, starting from the clean ones.

        Args:
            victim: The model, frozen and in evaluation mode.
            batch: The images.
            seed: In [0, 2^32).
            batch_size: Images a pass.

        Yields:
            Broken images, as they fall: misclassified, inside ball and box.
        """


class StepAttack(Attack):
    """An attack that moves every image still standing by one step at a time.

    All images advance together, in passes of at most ``batch_size``. Broken images leave between two steps, and passes
    are merged as soon as fewer can hold the rest, so that a step costs what the images still standing cost.

    Args:
        steps: Steps of each restart, at least 1.
        restarts: Starts, at least 1; an image is broken if any of them breaks it.
    """

    def __init__(self, steps: int, restarts: int = 1) -> None:
        self.steps = steps
        self.restarts = restarts

    @abstractmethod
    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """The next points of a batch, (b, c, h, w), before projection and clipping.

        Args:
            batch: The images to move; ``images`` require a gradient; ``memory`` may be filled and changed.
            logits: The logits of ``images`` in the view, (b, k), with their graph.
        """

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        """The first points, (b, c, h, w), before projection and clipping; here the images as they are.

        Args:
            batch: The images still standing. Draw for every image up to the last of ``index``, then take those of
                ``index``: so an image's draw depends neither on the other images nor on the batch size.
            restart: From 0.
            rng: Seeded from the attack's seed and the restart.
        """
        del restart, rng
        return batch.clean

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        standing = batch
        for restart in range(self.restarts):
            first = self.start(standing, restart, np.random.default_rng([seed, restart]))
            parts = replace(standing, images=project(first, standing.clean, standing.radius)).split(batch_size)
            for step in range(self.steps + 1):
                survivors = []
                for part in parts:
                    kept, broken = self._advance(victim, part, move=step < self.steps)
                    if broken is not None:
                        yield broken
                    if len(kept):
                        survivors.append(kept)
                if not survivors:
                    return
                fewest = math.ceil(sum(map(len, survivors)) / batch_size)
                parts = join(survivors).split(batch_size) if fewest < len(survivors) else survivors
            standing = replace(join(parts), memory={})

    def _advance(self, victim: Victim, batch: Batch, *, move: bool) -> tuple[Batch, Batch | None]:
        """Judge every iterate and move those that are still classified correctly; these, and the broken ones if any."""
        batch = replace(batch, images=batch.images.detach().requires_grad_(move))
        with torch.set_grad_enabled(move):
            raw = victim.logits(batch.images)
            moved = self.step(batch, victim.view(raw)) if move else batch.images
        batch.images, moved = batch.images.detach(), moved.detach()
        correct = raw.argmax(1) == batch.labels
        broken = None
        if not correct.all():
            broken = batch.take(~correct)
            batch, moved = batch.take(correct), moved[correct]
        batch.images = project(moved, batch.clean, batch.radius) if move else moved
        return batch, broken


def project(images: Tensor, clean: Tensor, radius: float) -> Tensor:
    """Move images into the L2 ball around the clean ones, then into the pixel box [0, 1].

    Clipping moves every pixel towards a clean image that lies in the box, so it never leaves the ball. An image that is
    not finite goes back to the clean one.

    Args:
        images: (n, c, h, w).
        clean: (n, c, h, w), in [0, 1].
        radius: Above 0, in pixel units; may be infinite.
    """
    change = images - clean
    norm = l2_norm(change)
    factor = (radius / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1.0)
    change = torch.where(norm.isfinite(), change * factor, torch.zeros_like(change))
    return (clean + change).clamp_(0.0, 1.0)


def l2_norm(images: Tensor) -> Tensor:
    """The L2 norm of each image, (n, 1, 1, 1)."""
    norm: Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return norm


def attack_seed(seed: int, label: str) -> int:
    """The seed of one attack on one replicate, in [0, 2^32), the same on every machine and in every process."""
    return int.from_bytes(sha256(f"{seed}/{label}".encode()).digest()[:4], "little")


@torch.no_grad()
def predict(logits: Callable[[Tensor], Tensor], images: Tensor, batch_size: int) -> Tensor:
    """Logits (n, k) of images (n, c, h, w), a batch at a time and without a graph."""
    return torch.cat([logits(part) for part in torch.split(images, batch_size)])


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside (attacks need the input's gradient alone), as found afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        model.requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad = flag
