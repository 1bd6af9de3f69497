"""What every attack shares: the ball, the box, the judgement, and the model left as it was found.

An attack is asked for one thing: images inside the ball and the pixel box whose predicted label is no longer the true
one. Only images that the clean model gets right are attacked. An image is broken as soon as any point that the attack
looks at is misclassified, so the outcome is each image's best iterate and never merely the last one.

Four ways to write an attack, each with its own little to write:

- `StepAttack` follows gradients: write ``step`` (and ``start``).
- `QueryAttack` sees logits alone: write ``propose`` and ``accept`` (and ``start``).
- `MinimumNormAttack` looks for the nearest misclassified image, whatever the radius: write ``run``.
- `Attack`, for what owns its loop otherwise: write ``run``.

The first two advance all images together, in passes of at most ``batch_size``; the base projects, clips, runs the
model, judges every iterate, lets broken images leave the batch at once and merges the passes that are left, so that an
iteration costs what the images still standing cost.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final, get_args

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks.ball import Ball
from trainables.losses import normalize_logits
from trainables.settings import Norm, View

# The mean norm of the clean images' logits in the view ``rescaled``: a softmax that is neither flat nor saturated.
RESCALED_NORM: Final = 10.0

Progress = Callable[[float], None]


@dataclass(frozen=True)
class AttackResult:
    """What one attack did to n images.

    Args:
        kept: Whether the label survived, bool (n,); False for an image that the clean model gets wrong, or that was not
            standing any more.
        adversarial: The nearest misclassified image that was found within the radius, the clean image where there is
            none, (n, c, h, w).
        distance: How far the nearest misclassified image that was found lies from the clean one, in the ball's norm,
            (n,); 0 where the clean model is wrong, infinite where none was found. A minimum-norm attack finds some
            outside the ball; they leave the label kept.
        forward_passes: Images that went forward through the model (each image of each batch counts one, each draw of an
            `Expectation` another).
        backward_passes: Images that went backward.
    """

    kept: Tensor
    adversarial: Tensor
    distance: Tensor
    forward_passes: int
    backward_passes: int


class Expectation(nn.Module):
    """A model that draws at random, averaged: the mean of its logits z over several evaluations.

    The mean of the logits and not of the softmaxes, since a model that draws nothing is then the same as ever in every
    view.

    Args:
        model: Draws anew at each evaluation, from the global random states.
        draws: Evaluations, at least 1.
    """

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model = model
        self.draws = draws

    def forward(self, images: Tensor) -> Tensor:
        """The mean logits, (n, k)."""
        return torch.stack([self.model(images) for _ in range(self.draws)]).mean(0)


class Victim(nn.Module):
    """The model as an attack sees it: logits in one view, every image that passes counted.

    Args:
        model: Maps images (n, c, h, w) to logits z (n, k).
        view: The logits that ``forward`` returns: ``normalized`` f = z / ||z||, ``raw`` z, or ``rescaled``, z * scale.
        scale: Of the view ``rescaled``.
        progress: Told which fraction of the attack is done.
    """

    def __init__(self, model: nn.Module, view: View, scale: float = 1.0, progress: Progress | None = None) -> None:
        super().__init__()
        self.model = model
        self.view_name = view
        self.view: Callable[[Tensor], Tensor] = {
            "normalized": normalize_logits,
            "raw": lambda logits: logits,
            "rescaled": lambda logits: logits * scale,
        }[view]
        self.progress = progress or (lambda _: None)
        self._draws = model.draws if isinstance(model, Expectation) else 1
        self.forward_passes = 0
        self.backward_passes = 0

    def logits(self, images: Tensor) -> Tensor:
        """The raw logits z (n, k), which decide: rounding can tie two entries of f whose z differ."""
        self.forward_passes += self._draws * len(images)
        logits: Tensor = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """The logits in the view, (n, k)."""
        return self.view(self.logits(images))

    def correct(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the label survives, bool (n,).

        Args:
            images: (n, c, h, w).
            logits: What ``logits`` said of them, (n, k).
            labels: True labels, (n,).
        """
        del images
        return logits.argmax(1) == labels

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += self._draws * len(gradient)


@dataclass
class Batch:
    """Images under attack, one a row.

    Args:
        clean: Where they started, (b, c, h, w).
        labels: True labels, (b,).
        clean_logits: The clean images' logits z, (b, k).
        images: The present iterates, (b, c, h, w), inside ball and box.
        index: Each image's position in the caller's images, (b,).
        ball: Where they must stay.
        memory: What an attack remembers of each image from step to step, first axis b (a momentum, a step size, ...).
    """

    clean: Tensor
    labels: Tensor
    clean_logits: Tensor
    images: Tensor
    index: Tensor
    ball: Ball
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def radius(self) -> float:
        """The ball's radius, in pixel units."""
        return self.ball.radius

    def take(self, rows: slice | Tensor) -> Batch:
        """The batch of some rows: a slice, positions or a mask."""
        return Batch(
            self.clean[rows],
            self.labels[rows],
            self.clean_logits[rows],
            self.images[rows],
            self.index[rows],
            self.ball,
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
        batches[0].ball,
        {name: torch.cat([batch.memory[name] for batch in batches]) for name in batches[0].memory},
    )


class Attack(ABC):
    """The contract: images in, per-image outcome out, nothing else in the process changed."""

    norms: tuple[Norm, ...] = get_args(Norm)
    """The balls that the attack knows."""

    minimum_norm: bool = False
    """Whether one run says at which radius each image falls, so that further radii need no runs of their own."""

    unit_free: bool = False
    """Whether no constant factor of the logits changes what the attack does, so that it does the same on z rescaled."""

    scale_free: bool = False
    """Whether not even a factor of each image's own does, so that it does the same on f as on z."""

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        radius: float,
        norm: Norm = "l2",
        view: View = "raw",
        seed: int = 0,
        batch_size: int = 128,
        logits: Tensor | None = None,
        standing: Tensor | None = None,
        scale: float | None = None,
        progress: Progress | None = None,
    ) -> AttackResult:
        """Attack every image that the model gets right.

        The model's modes, flags, gradients and buffers and the process's random states are the same afterwards.

        Args:
            model: Maps images to logits z (n, k).
            images: (n, c, h, w), fp32 in [0, 1], on the model's device.
            labels: (n,), int64.
            radius: Of the ball, above 0, in pixel units.
            norm: Of the ball.
            view: The logits that the attack sees.
            seed: In [0, 2^32). What is drawn for image i depends on the seed and i alone.
            batch_size: Images a pass.
            logits: The clean logits z (n, k) where they are known; None to compute them.
            standing: Which images are still to be attacked, bool (n,); the others count as broken, and the clean image
                stands for them. None for all of them.
            scale: Of the view ``rescaled``; by these images' logits where it is None (`rescaling`).
            progress: Told now and then which fraction of the attack is done, in [0, 1].

        Raises:
            ValueError: The attack cannot run on this many classes, or in this norm.
        """
        if norm not in self.norms:
            name = type(self).__name__
            raise ValueError(f"norm must be {' or '.join(self.norms)} for {name}, got {norm}; choose another attack")
        ball = Ball(radius, norm)
        images = images.detach().contiguous(memory_format=torch.channels_last)
        with untouched(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            victim = Victim(model, "raw")
            clean_logits = predict(victim.logits, images, batch_size) if logits is None else logits
            forward_passes = victim.forward_passes
            if scale is None:
                scale = rescaling(clean_logits) if view == "rescaled" else 1.0
            victim = Victim(model, view, scale, progress)
            correct = clean_logits.argmax(1) == labels
            attacked = correct if standing is None else correct & standing
            distance = torch.where(correct, torch.inf, images.new_zeros(len(images)))
            adversarial = images.clone(memory_format=torch.channels_last)
            index = attacked.nonzero().squeeze(1)
            if len(index):
                batch = Batch(
                    clean=images[index],
                    labels=labels[index],
                    clean_logits=clean_logits[index],
                    images=images[index],
                    index=index,
                    ball=ball,
                )
                for broken in self.run(victim, batch, seed=seed, batch_size=batch_size):
                    found = ball.distance(broken.images, broken.clean)
                    nearer = found < distance[broken.index]
                    rows = broken.index[nearer]
                    distance[rows] = found[nearer]
                    adversarial[rows] = broken.images[nearer]
        outside = attacked & ~ball.holds(distance)
        adversarial[outside] = images[outside]
        return AttackResult(
            outside, adversarial, distance, forward_passes + victim.forward_passes, victim.backward_passes
        )

    @abstractmethod
    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Attack images that are all classified correctly, starting from the clean ones.

        Args:
            victim: The model, frozen and in evaluation mode.
            batch: The images.
            seed: In [0, 2^32).
            batch_size: Images a pass.

        Yields:
            Broken images, as they fall: misclassified and inside the box. Outside the ball they are not counted.
        """


class MinimumNormAttack(Attack):
    """An attack that looks for the nearest misclassified image; the radius does not steer it."""

    minimum_norm = True


class IterativeAttack(Attack):
    """All images advance together, the broken ones leave, and the passes that are left are merged.

    Args:
        iterations: Passes over the iterates of each restart, at least 1.
        restarts: Starts, at least 1; an image is broken if any of them breaks it.
    """

    def __init__(self, iterations: int, restarts: int = 1) -> None:
        self.iterations = iterations
        self.restarts = restarts

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        """The first points, (b, c, h, w), before projection and clipping; here the images as they are.

        Args:
            batch: The images still standing; ``memory`` is empty and may be filled. Draw for every image up to the last
                of ``index``, then take those of ``index``: so an image's draw depends neither on the other images nor
                on the batch size.
            restart: From 0.
            rng: Seeded from the attack's seed and the restart.
        """
        del restart, rng
        return batch.clean

    def rounds(self, batch: Batch) -> int:
        """How often images are started anew; here ``restarts``."""
        del batch
        return self.restarts

    @abstractmethod
    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """One pass.

        Args:
            victim: The model.
            batch: The images.
            iteration: From 0.
            seed: The attack's.

        Returns:
            The images that are still classified correctly, moved, and those that are not, if any.
        """

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        standing = batch
        rounds = self.rounds(batch)
        for restart in range(rounds):
            standing = replace(standing, memory={})
            first = self.start(standing, restart, np.random.default_rng([seed, restart]))
            parts = replace(standing, images=batch.ball.project(first, standing.clean)).split(batch_size)
            for iteration in range(self.iterations):
                survivors = []
                for part in parts:
                    kept, broken = self.advance(victim, part, iteration, seed)
                    if broken is not None:
                        yield broken
                    if len(kept):
                        survivors.append(kept)
                victim.progress((restart + (iteration + 1) / self.iterations) / rounds)
                if not survivors:
                    return
                fewest = math.ceil(sum(map(len, survivors)) / batch_size)
                parts = join(survivors).split(batch_size) if fewest < len(survivors) else survivors
            standing = join(parts)


class StepAttack(IterativeAttack):
    """An attack that moves every image still standing along a gradient, one step at a time.

    Every iterate is judged by the forward pass that the step's gradient needs anyway.

    Args:
        steps: Steps of each restart, at least 1.
        restarts: Starts, at least 1.
    """

    def __init__(self, steps: int, restarts: int = 1) -> None:
        super().__init__(steps + 1, restarts)  # the last iterate is judged and not moved
        self.steps = steps

    @abstractmethod
    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """The next points of a batch, (b, c, h, w), before projection and clipping.

        Args:
            batch: The images to move; ``images`` require a gradient; ``memory`` may be filled and changed.
            logits: The logits of ``images`` in the view, (b, k), with their graph.
        """

    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """Judge every iterate and move those that are still classified correctly."""
        del seed
        move = iteration < self.steps
        batch = replace(batch, images=batch.images.detach().requires_grad_(move))
        with torch.set_grad_enabled(move):
            raw = victim.logits(batch.images)
            moved = self.step(batch, victim.view(raw)) if move else batch.images
        batch.images, moved = batch.images.detach(), moved.detach()
        correct = victim.correct(batch.images, raw, batch.labels)
        broken = None
        if not correct.all():
            broken = batch.take(~correct)
            batch, moved = batch.take(correct), moved[correct]
        batch.images = batch.ball.project(moved, batch.clean) if move else moved
        return batch, broken


class QueryAttack(IterativeAttack):
    """An attack that asks for the logits of one candidate of each image at a time and sees no gradient.

    It starts from the clean images. ``memory["logits"]`` are the present images' logits in the view, (b, k). Where the
    pixel box clips a candidate back to the present image the answer is known: a query, but no pass through the model.

    Args:
        queries: Candidates of each image, at least 1.
    """

    def __init__(self, queries: int) -> None:
        super().__init__(queries)
        self.queries = queries

    @abstractmethod
    def propose(self, batch: Batch, query: int, rng: np.random.Generator) -> Tensor:
        """The next candidates of a batch, (b, c, h, w), before projection and clipping; a tensor that may be changed.

        Args:
            batch: The images, not to be changed in place; ``memory`` may be filled and changed.
            query: From 0.
            rng: Seeded from the attack's seed and the query, anew for each batch: draw for every image up to the last
                of ``index``, then take those of ``index``.
        """

    @abstractmethod
    def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
        """Which candidates become the images, bool (b,).

        Args:
            batch: The images before the query; ``memory`` may be changed.
            query: From 0.
            logits: The candidates' logits in the view, (b, k).
        """

    @torch.no_grad()
    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """Ask about the candidates, and go on from those that the attack accepts."""
        batch = replace(batch, memory=dict(batch.memory))
        if iteration == 0:
            batch.memory["logits"] = victim.view(batch.clean_logits)
        proposed = self.propose(batch, iteration, np.random.default_rng([seed, iteration]))
        candidates = batch.ball.project(proposed, batch.clean)
        # A norm costs a quarter of what `!=` and `any` do on a processor.
        change = torch.linalg.vector_norm(proposed.clamp_(0.0, 1.0).sub_(batch.images), 1, dim=(1, 2, 3))
        news = change.nonzero().squeeze(1)
        logits, correct = batch.memory["logits"], torch.ones_like(batch.labels, dtype=torch.bool)
        if len(news):
            asked = candidates if len(news) == len(batch) else candidates[news]
            raw = victim.logits(asked)
            logits = logits.index_copy(0, news, victim.view(raw))
            correct[news] = victim.correct(asked, raw, batch.labels[news])
        accepted = self.accept(batch, iteration, logits)
        broken = None
        if not correct.all():
            broken = replace(batch, images=candidates).take(~correct)
        rejected = (~accepted).nonzero().squeeze(1)
        candidates[rejected] = batch.images[rejected]
        batch.images = candidates
        batch.memory["logits"] = torch.where(accepted.unsqueeze(1), logits, batch.memory["logits"])
        return (batch if broken is None else batch.take(correct)), broken


def rescaling(logits: Tensor) -> float:
    """The constant that gives logits (n, k) a mean L2 norm of `RESCALED_NORM`; 1 where all of them are 0."""
    norm = float(torch.linalg.vector_norm(logits.double(), dim=1).mean())
    return RESCALED_NORM / norm if norm > 0 else 1.0


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
