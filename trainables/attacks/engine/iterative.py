"""Attacks that advance all images together.

The base classes project, clip, run the model, judge every iterate, remove broken images from the batch at once and
merge the passes that are left, so that an iteration costs only what the images still standing cost.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from trainables.attacks.engine.attack import Attack, AttackLoss, Batch, Invariance, join
from trainables.settings.checks import count

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.attacks.engine.victim import Victim


@dataclass(frozen=True, kw_only=True)
class IterativeAttack(Attack):
    """The loop over rounds, which start again, and iterations, which pass over the iterates once."""

    @abstractmethod
    def schedule(self, classes: int) -> tuple[int, int]:
        """The number of rounds for so many classes, and the number of iterations of each, at least 1."""

    @property
    def passes(self) -> int:
        rounds, iterations = self.schedule(10)
        return 2 * rounds * iterations

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        """The first points, (b, c, h, w), before projection and clipping; by default the clean images.

        The batch holds the images still standing; ``memory`` is empty and may be filled. ``rng`` is seeded from the
        attack's seed and the restart. Draw for every image up to the last of ``index``, then take those of ``index``,
        so that an image's draw depends neither on the other images nor on the batch size.
        """
        del restart, rng
        return batch.clean

    @abstractmethod
    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """One pass: the images that are still classified correctly, moved, and those that are not, if any."""

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        standing = batch
        rounds, iterations = self.schedule(batch.clean_logits.shape[1])
        for restart in range(rounds):
            standing = replace(standing, memory={})
            first = self.start(standing, restart, np.random.default_rng([seed, restart]))
            parts = replace(standing, images=batch.ball.project(first, standing.clean)).split(batch_size)
            for iteration in range(iterations):
                survivors = []
                for part in parts:
                    kept, broken = self.advance(victim, part, iteration, seed)
                    if broken is not None:
                        yield broken
                    if len(kept):
                        survivors.append(kept)
                victim.progress((restart + (iteration + 1) / iterations) / rounds)
                if not survivors:
                    return
                fewest = math.ceil(sum(map(len, survivors)) / batch_size)
                parts = join(survivors).split(batch_size) if fewest < len(survivors) else survivors
            standing = join(parts)


@dataclass(frozen=True, kw_only=True)
class StepAttack(IterativeAttack):
    """An attack that moves every image still standing along a gradient, one step at a time.

    Every iterate is judged by the forward pass that the step's gradient needs anyway. ``restarts`` is the number of
    starts, each with ``steps`` steps; an image is broken if any of them breaks it.
    """

    steps: int = count(50)
    restarts: int = count(1)

    def schedule(self, classes: int) -> tuple[int, int]:
        del classes
        return self.restarts, self.steps + 1  # the last iterate is judged and not moved

    @abstractmethod
    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """The next points of a batch, (b, c, h, w), before projection and clipping.

        The batch's ``images`` require a gradient, and ``logits`` (b, k) are theirs in the view, with their graph. The
        batch's ``memory`` may be filled and changed.
        """

    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        import torch

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


@dataclass(frozen=True, kw_only=True)
class LossAttack(StepAttack):
    """An attack that steps up each image's own loss.

    That is cross entropy (``ce``), climbed as log odds, the difference of logits ratio (``dlr``), which no scale of the
    logits can blunt, or the probability margin (``pm``), which knows no targets.
    """

    shown: ClassVar[tuple[str, ...]] = ("steps", "loss")

    loss: AttackLoss = "ce"

    def __post_init__(self) -> None:
        super().__post_init__()
        target = getattr(self, "target", "untargeted")
        if self.loss == "pm" and target != "untargeted":
            raise ValueError(f"loss must be ce or dlr for the target {target}, got pm; leave target out")

    @property
    def invariance(self) -> Invariance:  # type: ignore[override]  # a class attribute elsewhere
        return "per-image" if self.loss == "dlr" else "none"

    def climb(self, batch: Batch, logits: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each image's loss, (b,), away from its label or towards its target, and the gradient, (b, c, h, w)."""
        import torch

        from trainables.attacks.engine.margins import objective

        losses = objective(self.loss, logits, batch.labels, targets)
        # Summed, never averaged: an image's gradient must not depend on how many images are in the batch.
        (gradient,) = torch.autograd.grad(losses.sum(), batch.images)
        return losses.detach(), gradient


@dataclass(frozen=True, kw_only=True)
class QueryAttack(IterativeAttack):
    """An attack that asks for the logits of one candidate of each image at a time and sees no gradient.

    It starts from the clean images. ``memory["logits"]`` holds the current images' logits in the view, (b, k). Where
    the pixel box clips a candidate back to the current image, the answer is known: that is a query, but no pass
    through the model. ``queries`` is the number of candidates per image.
    """

    queries: int = count(1000)

    @property
    def passes(self) -> int:
        return self.queries

    def schedule(self, classes: int) -> tuple[int, int]:
        del classes
        return 1, self.queries

    @abstractmethod
    def propose(self, batch: Batch, query: int, rng: np.random.Generator) -> Tensor:
        """The next candidates of a batch, (b, c, h, w), before projection and clipping; a tensor that may be changed.

        Do not change ``images`` in place; ``memory`` may be changed. ``rng`` is seeded from the attack's seed and the
        query (from 0), again for each batch: draw as for ``start``.
        """

    @abstractmethod
    def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
        """Which candidates become the current images, bool (b,), given their logits in the view, (b, k).

        The batch is as before the query; its ``memory`` may be changed.
        """

    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        import torch

        with torch.no_grad():
            batch = replace(batch, memory=dict(batch.memory))
            if iteration == 0:
                batch.memory["logits"] = victim.view(batch.clean_logits)
            proposed = self.propose(batch, iteration, np.random.default_rng([seed, iteration]))
            candidates = batch.ball.project(proposed, batch.clean)
            # A norm costs a quarter of what `!=` and `any` cost on a CPU.
            change = torch.linalg.vector_norm(proposed.clamp_(0.0, 1.0).sub_(batch.images), 1, dim=(1, 2, 3))
            changed = change.nonzero().squeeze(1)
            logits, correct = batch.memory["logits"], torch.ones_like(batch.labels, dtype=torch.bool)
            if len(changed):
                asked = candidates if len(changed) == len(batch) else candidates[changed]
                raw = victim.logits(asked)
                logits = logits.index_copy(0, changed, victim.view(raw))
                correct[changed] = victim.correct(asked, raw, batch.labels[changed])
            accepted = self.accept(batch, iteration, logits)
            broken = None
            if not correct.all():
                broken = replace(batch, images=candidates).take(~correct)
            rejected = (~accepted).nonzero().squeeze(1)
            candidates[rejected] = batch.images[rejected]
            batch.images = candidates
            batch.memory["logits"] = torch.where(accepted.unsqueeze(1), logits, batch.memory["logits"])
            return (batch if broken is None else batch.take(correct)), broken
