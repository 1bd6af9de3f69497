"""What every attack shares: the ball, the box, the verdict on each image, and a model left as it was.

An attack looks for images inside the ball and the pixel box whose predicted label is no longer the true one. Only
images that the clean model classifies correctly are attacked. An image is broken as soon as any point that the attack
evaluates is misclassified, so the outcome is each image's best iterate, not merely the last one.

There are four ways to write an attack. Each leaves little to write:

- `StepAttack` follows gradients: write ``step`` (and ``start``).
- `QueryAttack` sees logits alone: write ``propose`` and ``accept`` (and ``start``).
- `MinimumNormAttack` looks for the nearest misclassified image, whatever the radius: write ``run``.
- `Attack`, for anything that needs its own loop: write ``run``.

The first two advance all images together, in passes of at most ``batch_size``. The base class projects, clips, runs the
model, judges every iterate, removes broken images from the batch at once and merges the passes that are left, so that
an iteration costs only what the images still standing cost.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Final, Literal, final, get_args

import numpy as np

from trainables.attacks.engine.batch import Batch, join
from trainables.attacks.engine.limits import check_limits, count
from trainables.registry import Component, Kind
from trainables.settings.checks import check_choice
from trainables.settings.threat import Norm, View

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.attacks.engine.victim import Victim

AttackLoss = Literal["ce", "dlr"]
Progress = Callable[[float], None]

# The fields that every attack has; a label mentions ``eot`` alone.
_COMMON: Final = ("views", "remaining", "eot")


@dataclass(frozen=True)
class AttackResult:
    """What one attack did to n images.

    Args:
        kept: Whether the label survived, bool (n,); False for an image that the clean model gets wrong or that was not
            standing any more.
        adversarial: The nearest misclassified image found within the radius, or the clean image where there is none,
            (n, c, h, w).
        distance: Distance between the clean image and the nearest misclassified image found, in the ball's norm, (n,);
            0 where the clean model is wrong, infinite where none was found. A minimum-norm attack also finds images
            outside the ball; those leave the label kept.
        forward_passes: Images that went forward through the model (each image of each batch counts once; with ``eot``,
            once for each draw).
        backward_passes: Images that went backward.
    """

    kept: Tensor
    adversarial: Tensor
    distance: Tensor
    forward_passes: int
    backward_passes: int


@dataclass(frozen=True, kw_only=True)
class Attack(Component, ABC):
    """The contract: images in, one outcome per image out, and nothing else in the process changed.

    An attack is both its settings and its behaviour. It keeps no state between calls.

    Args:
        views: The logits that the attack sees, among those configured for all attacks; None for all of them.
        remaining: Whether to attack only what earlier attacks, on all views, have left standing. The worst case is the
            same and costs less, but the attack has no accuracy of its own.
        eot: Number of evaluations whose mean logits stand for one (expectation over transformation), for a model that
            draws at random. Logits, gradients and success are the mean's, those of the clean images too. What a model
            draws for an image may depend on the images next to it in the batch.
    """

    kind: ClassVar[Kind] = "attack"

    norms: ClassVar[tuple[Norm, ...]] = get_args(Norm)
    """The balls that the attack knows."""

    minimum_norm: ClassVar[bool] = False
    """Whether one run tells at which radius each image falls, so that further radii need no runs of their own."""

    judged_at_end: ClassVar[bool] = False
    """Whether only the images that it returns are judged, and not every point that it evaluates."""

    shown: ClassVar[tuple[str, ...]] = ()
    """The settings that the label always mentions, in this order."""

    views: tuple[View, ...] | None = None
    remaining: bool = False
    eot: int = count(1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views is not None:
            if not isinstance(self.views, tuple):
                raise ValueError(f"views must be a list, got {self.views}; write [{self.views}]")
            for view in self.views:
                check_choice("views", view, get_args(View))
        check_limits(self)

    @property
    def unit_free(self) -> bool:
        """Whether the attack does the same when all logits are multiplied by a constant, as in the view rescaled."""
        return False

    @property
    def scale_free(self) -> bool:
        """Whether it even does the same when each image's logits have their own factor, as f has compared with z."""
        return False

    @property
    def label(self) -> str:
        """The attack's name in records, columns and figures, e.g. ``pgd50-dlr``. Seeds derive from it."""
        return self.description + (f"-eot{self.eot}" if self.eot > 1 else "")

    @property
    def description(self) -> str:
        """The label without ``eot``: the name, the settings in ``shown``, then those that differ from their default."""
        own = [field for field in dataclasses.fields(self) if field.name not in _COMMON]
        number = next((name for name in self.shown if name in ("steps", "queries")), None)
        parts = [self.name.rpartition(":")[2] + (str(getattr(self, number)) if number else "")]
        parts += [str(getattr(self, name)) for name in self.shown if name != number]
        target = getattr(self, "target", "untargeted")
        if target != "untargeted":
            parts.append(str(target))
        for field in own:
            value = getattr(self, field.name)
            if field.name not in (*self.shown, "target") and value != field.default:
                parts.append(f"{field.name}={value}")
        return "-".join(parts)

    def prepare(self) -> None:
        """Checks what cannot be checked without importing torch or the attack's own library.

        Raises:
            ValueError: A setting is not legal.
        """

    @final
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
        """Attacks every image that the model classifies correctly.

        The model's modes, flags, gradients and buffers and the process's random states are the same afterwards.

        Args:
            model: Maps images to logits z (n, k).
            images: (n, c, h, w), fp32 in [0, 1], on the model's device.
            labels: (n,), int64.
            radius: The ball's radius, above 0, in pixel units.
            norm: The norm of the ball.
            view: The logits that the attack sees.
            seed: In [0, 2^32). What is drawn for image i depends on the seed and i alone.
            batch_size: Images per pass.
            logits: The clean logits z (n, k) if they are known; ignored with ``eot``, where they may come from one
                evaluation.
            standing: Which images are still to be attacked, bool (n,); the others count as broken and keep the clean
                image. None for all of them.
            scale: The factor of the view ``rescaled``; computed from these images' logits if None (`rescaling`).
            progress: Receives the completed fraction of the attack, in [0, 1], from time to time.

        Raises:
            ValueError: The attack cannot run on this many classes, or in this norm.
        """
        import torch

        from trainables.attacks.engine.ball import Ball
        from trainables.attacks.engine.randomness import isolated_randomness
        from trainables.attacks.engine.victim import Expectation, Victim, predict, rescaling, untouched

        if norm not in self.norms:
            name = type(self).__name__
            raise ValueError(f"norm must be {' or '.join(self.norms)} for {name}, got {norm}; choose another attack")
        ball = Ball(radius, norm)
        images = images.detach().contiguous(memory_format=torch.channels_last)
        if self.eot > 1:
            model, logits = Expectation(model, self.eot), None
        randomness = isolated_randomness(seed) if self.eot > 1 else nullcontext()
        with randomness, untouched(model), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
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
                clean = images[index]
                batch = Batch(clean, labels[index], clean_logits[index], images=clean, index=index, ball=ball)
                for broken in self.run(victim, batch, seed=seed, batch_size=batch_size):
                    found = ball.distance(broken.images, broken.clean)
                    nearer = found < distance[broken.index]
                    rows = broken.index[nearer]
                    distance[rows] = found[nearer]
                    adversarial[rows] = broken.images[nearer]
        kept = attacked & ~ball.holds(distance)
        adversarial[kept] = images[kept]
        return AttackResult(kept, adversarial, distance, forward_passes + victim.forward_passes, victim.backward_passes)

    @abstractmethod
    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Attacks images that are all classified correctly, starting from the clean ones.

        Args:
            victim: The model, frozen and in evaluation mode.
            batch: The images.
            seed: In [0, 2^32).
            batch_size: Images per pass.

        Yields:
            Broken images as they fall: misclassified and inside the box. Those outside the ball are not counted.
        """


@dataclass(frozen=True, kw_only=True)
class MinimumNormAttack(Attack):
    """An attack that looks for the nearest misclassified image; the radius does not guide it."""

    minimum_norm: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class IterativeAttack(Attack):
    """All images advance together, the broken ones leave, and the passes that are left are merged."""

    @property
    @abstractmethod
    def iterations(self) -> int:
        """Passes over the iterates of each round, at least 1."""

    def start(self, batch: Batch, restart: int, rng: np.random.Generator) -> Tensor:
        """The first points, (b, c, h, w), before projection and clipping; by default the clean images.

        Args:
            batch: The images still standing; ``memory`` is empty and may be filled. Draw for every image up to the last
                of ``index``, then take those of ``index``, so that an image's draw depends neither on the other images
                nor on the batch size.
            restart: From 0.
            rng: Seeded from the attack's seed and the restart.
        """
        del restart, rng
        return batch.clean

    def rounds(self, batch: Batch) -> int:
        """How often the images start again."""
        del batch
        return 1

    @abstractmethod
    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """One pass.

        Args:
            victim: The model.
            batch: The images.
            iteration: From 0.
            seed: The attack's seed.

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


@dataclass(frozen=True, kw_only=True)
class StepAttack(IterativeAttack):
    """An attack that moves every image still standing along a gradient, one step at a time.

    Every iterate is judged by the forward pass that the step's gradient needs anyway.

    Args:
        steps: Gradient steps of each start, at least 1.
        restarts: Number of starts, at least 1; an image is broken if any of them breaks it.
    """

    steps: int = count(50)
    restarts: int = count(1)

    @property
    def iterations(self) -> int:
        return self.steps + 1  # the last iterate is judged and not moved

    def rounds(self, batch: Batch) -> int:
        del batch
        return self.restarts

    @abstractmethod
    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """The next points of a batch, (b, c, h, w), before projection and clipping.

        Args:
            batch: The images to move; ``images`` require a gradient; ``memory`` may be filled and changed.
            logits: The logits of ``images`` in the view, (b, k), with their graph.
        """

    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """Judges every iterate and moves those that are still classified correctly."""
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
class QueryAttack(IterativeAttack):
    """An attack that asks for the logits of one candidate of each image at a time and sees no gradient.

    It starts from the clean images. ``memory["logits"]`` holds the current images' logits in the view, (b, k). Where
    the pixel box clips a candidate back to the current image, the answer is known: that is a query, but no pass
    through the model.

    Args:
        queries: Candidates per image, at least 1.
    """

    queries: int = count(1000)

    @property
    def iterations(self) -> int:
        return self.queries

    @abstractmethod
    def propose(self, batch: Batch, query: int, rng: np.random.Generator) -> Tensor:
        """The next candidates of a batch, (b, c, h, w), before projection and clipping; a tensor that may be changed.

        Args:
            batch: The images, not to be changed in place; ``memory`` may be filled and changed.
            query: From 0.
            rng: Seeded from the attack's seed and the query, again for each batch: draw for every image up to the last
                of ``index``, then take those of ``index``.
        """

    @abstractmethod
    def accept(self, batch: Batch, query: int, logits: Tensor) -> Tensor:
        """Which candidates become the current images, bool (b,).

        Args:
            batch: The images before the query; ``memory`` may be changed.
            query: From 0.
            logits: The candidates' logits in the view, (b, k).
        """

    def advance(self, victim: Victim, batch: Batch, iteration: int, seed: int) -> tuple[Batch, Batch | None]:
        """Asks about the candidates, and continues from those that the attack accepts."""
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


def attack_seed(seed: int, label: str) -> int:
    """The seed of one attack on one replicate, in [0, 2^32), the same on every machine and in every process."""
    return int.from_bytes(sha256(f"{seed}/{label}".encode()).digest()[:4], "little")
