"""What every attack shares: the ball, the box, the verdict on each image, and a model left as it was.

An attack looks for images inside the ball and the pixel box whose predicted label is no longer the true one. Only
images that the clean model classifies correctly are attacked. An image is broken as soon as any point that the attack
evaluates is misclassified, so the outcome is each image's best iterate, not merely the last one.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, final, get_args

from trainables.registry import Component, External, Kind, external
from trainables.settings.checks import check_choice, count
from trainables.settings.threat import Norm, View

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.attacks.engine.ball import Ball
    from trainables.attacks.engine.victim import Victim

AttackLoss = Literal["ce", "dlr", "pm"]
Invariance = Literal["none", "global", "per-image"]
Progress = Callable[[float], None]

# The fields that every attack has; a label mentions ``eot`` alone.
_COMMON: Final = ("views", "remaining", "eot")
_COLUMNS: Final = ("clean", "labels", "clean_logits", "images", "index")  # of a batch, one row per image


@dataclass
class Batch:
    """Images under attack, one per row."""

    clean: Tensor  # the clean images, (b, c, h, w)
    labels: Tensor  # the true ones, (b,)
    clean_logits: Tensor  # the clean images' z, (b, k)
    images: Tensor  # the current iterates, inside ball and box, (b, c, h, w)
    index: Tensor  # each image's position in the caller's images, (b,)
    ball: Ball  # where the iterates must stay
    memory: dict[str, Tensor] = field(default_factory=dict)  # what an attack remembers of each image, first axis b

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def radius(self) -> float:
        """The ball's radius, in pixel units."""
        return self.ball.radius

    def take(self, rows: slice | Tensor) -> Batch:
        """The batch of some rows."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Batch(**columns, ball=self.ball, memory={name: values[rows] for name, values in self.memory.items()})

    def split(self, size: int) -> list[Batch]:
        """Batches of at most ``size`` rows that share this one's storage."""
        return [self.take(slice(begin, begin + size)) for begin in range(0, len(self), size)]

    def rivals(self, count: int) -> Tensor:
        """The ``count`` wrong classes, or all, that have the largest clean logits, the largest first, (b, count)."""
        others = self.clean_logits.scatter(1, self.labels.unsqueeze(1), -math.inf)
        return others.topk(min(count, others.shape[1] - 1)).indices


def join(batches: list[Batch]) -> Batch:
    """One batch of all rows, in order; the inverse of `Batch.split`."""
    import torch

    columns = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in _COLUMNS}
    memory = {name: torch.cat([batch.memory[name] for batch in batches]) for name in batches[0].memory}
    return Batch(**columns, ball=batches[0].ball, memory=memory)


@dataclass(frozen=True)
class AttackResult:
    """What one attack did to n images.

    Args:
        kept: Whether the label survived, bool (n,); False if the clean model was wrong or the image not standing.
        adversarial: The nearest misclassified image found within the radius, else the clean image, (n, c, h, w).
        distance: From the clean image to the nearest misclassified one found, in the ball's norm, (n,); 0 where the
            clean model is wrong, infinite where none was found. A minimum-norm attack also finds images outside the
            ball; those leave the label kept.
        forward_passes: Images that went forward through the model, with ``eot`` once for each draw.
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

    Args:
        views: The logits that the attack sees, among those configured for all attacks; None for all of them.
        remaining: Whether to attack only what earlier attacks, on all views, have left standing. The worst case is the
            same and costs less, but the attack has no accuracy of its own.
        eot: Number of evaluations whose mean logits stand for one (expectation over transformation), for a model that
            draws at random. Gradients and success are the mean's, also those of the clean images. What a model draws
            for an image may depend on the images next to it in the batch.
    """

    kind: ClassVar[Kind] = "attack"
    norms: ClassVar[tuple[Norm, ...]] = get_args(Norm)  # the balls that the attack knows
    # Whether one run tells at which radius each image falls, so that further radii need no runs.
    minimum_norm: ClassVar[bool] = False
    # Whether only the images that it returns are judged, and not every point that it evaluates.
    judged_at_end: ClassVar[bool] = False
    # Which factors of the logits change nothing: ``global``, one for all images, by which the view ``rescaled`` differs
    # from ``raw``, or ``per-image``, also each image's own, as in ``normalized``.
    invariance: ClassVar[Invariance] = "none"
    shown: ClassVar[tuple[str, ...]] = ()  # the settings that the label always mentions, in this order

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

    @property
    def label(self) -> str:
        """The attack's name in records, columns and figures, e.g. ``pgd50-dlr``. Seeds derive from it."""
        return self.description + (f"-eot{self.eot}" if self.eot > 1 else "")

    @property
    def passes(self) -> int:
        """About how often an image that never falls goes forward and backward in one view, with ten classes.

        Only for plans; ``eot`` multiplies it. The default is for an attack that does not say.
        """
        return 100

    @property
    def description(self) -> str:
        """The label without ``eot``: the name, the settings in ``shown``, then those that differ from their default."""
        number = next((name for name in self.shown if name in ("steps", "queries")), None)
        parts = [self.title + (str(getattr(self, number)) if number else "")]
        parts += [str(getattr(self, name)) for name in self.shown if name != number]
        target = getattr(self, "target", "untargeted")
        if target != "untargeted":
            parts.append(str(target))
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name not in (*_COMMON, *self.shown, "target") and value != item.default:
                parts.append(f"{item.name}={value}")
        return "-".join(parts)

    def prepare(self) -> None:
        """Raises a ValueError for settings that only torch or the attack's own library shows to be illegal."""

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
            radius: The ball's, in ``norm``, above 0, in pixel units.
            view: The logits that the attack sees.
            seed: In [0, 2^32). What is drawn for image i depends on the seed and i alone.
            batch_size: Images per pass.
            logits: The clean logits z (n, k) if known; ignored with ``eot``, where they may come from one evaluation.
            standing: Which images are still to be attacked, bool (n,), by default all. The others count as broken.
            scale: The factor of the view ``rescaled``; computed from these images' logits if None (`rescaling`).
            progress: Receives the completed fraction of the attack, in [0, 1], from time to time.

        Raises:
            ValueError: The attack cannot run on this many classes, or in this norm.
        """
        import torch

        from trainables.attacks.engine.ball import Ball
        from trainables.attacks.engine.victim import Victim, isolated_randomness, predict, rescaling, untouched

        if norm not in self.norms:
            name = type(self).__name__
            raise ValueError(f"norm must be {' or '.join(self.norms)} for {name}, got {norm}; choose another attack")
        ball = Ball(radius, norm)
        images = images.detach().contiguous(memory_format=torch.channels_last)
        victim = Victim(model, view, self.eot, progress)
        in_fp32 = torch.autocast(images.device.type, enabled=False)
        with isolated_randomness(seed), untouched(model), torch.enable_grad(), in_fp32:
            clean_logits = predict(victim.logits, images, batch_size) if logits is None or self.eot > 1 else logits
            if view == "rescaled":
                victim.scale = rescaling(clean_logits) if scale is None else scale
            correct = clean_logits.argmax(1) == labels
            attacked = correct if standing is None else correct & standing
            distance = torch.where(correct, torch.inf, images.new_zeros(len(images)))
            adversarial = images.clone(memory_format=torch.channels_last)
            index = attacked.nonzero().squeeze(1)
            if len(index):
                clean = images[index]
                batch = Batch(clean, labels[index], clean_logits[index], images=clean, index=index, ball=ball)
                for broken in self.run(victim, batch, seed=seed, batch_size=batch_size):
                    far = ball.distance(broken.images, broken.clean)
                    nearer = far < distance[broken.index]
                    rows = broken.index[nearer]
                    distance[rows] = far[nearer]
                    adversarial[rows] = broken.images[nearer]
        kept = attacked & ~ball.holds(distance)
        adversarial[kept] = images[kept]
        return AttackResult(kept, adversarial, distance, victim.forward_passes, victim.backward_passes)

    @abstractmethod
    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        """Attacks images that are all classified correctly, starting from the clean ones.

        The victim is frozen and in evaluation mode. A pass holds at most ``batch_size`` images.

        Yields:
            Broken images as they fall: misclassified and inside the box. Those outside the ball are not counted.
        """


@dataclass(frozen=True, kw_only=True)
class MinimumNormAttack(Attack):
    """An attack that looks for the nearest misclassified image; the radius does not guide it."""

    minimum_norm: ClassVar[bool] = True


@external
@dataclass(frozen=True, kw_only=True)
class ExternalAttack(Attack, External):
    """An attack given by import path: a factory of ``(model, images, labels, *, radius, norm, seed) -> images``.

    ``model`` maps images (b, c, h, w) to the logits (b, k) of the view, in evaluation mode. The images that come back
    are projected into ball and box and judged here, so such an attack cannot claim more than it achieves. The global
    random states are seeded for it.
    """

    judged_at_end: ClassVar[bool] = True

    @property
    def description(self) -> str:
        return "-".join([self.title, *(f"{key}={value}" for key, value in self.arguments.items())])

    def run(self, victim: Victim, batch: Batch, *, seed: int, batch_size: int) -> Iterator[Batch]:
        from trainables.attacks.engine.victim import judged

        attack = self.call()
        if not callable(attack):
            raise ValueError(
                f"robustness.attacks must name factories of attacks, got {self.path}, which returned "
                f"{type(attack).__name__}; return a callable"
            )

        def perturb(model: nn.Module, part: Batch) -> Any:
            images, labels = part.clean.clone().contiguous(), part.labels.clone()
            return attack(model, images, labels, radius=part.radius, norm=part.ball.norm, seed=seed)

        return judged(perturb, victim, batch, seed, batch_size, project=True)


def attack_seed(seed: int, label: str) -> int:
    """The seed of one attack on one replicate, in [0, 2^32), the same on every machine and in every process."""
    return int.from_bytes(sha256(f"{seed}/{label}".encode()).digest()[:4], "little")


def part_of(report: Progress, begin: float, share: float) -> Progress:
    """Reports the completed fraction of a part, which begins at ``begin``, as that of the whole."""
    return lambda done: report(begin + share * done)
