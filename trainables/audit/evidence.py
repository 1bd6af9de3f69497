"""What an audit runs: attacks that add up to one worst case, and probes of whether these attacks can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks import Attack, Batch, attack_seed
from trainables.attacks.apgd import APGD
from trainables.attacks.engine.margins import objective
from trainables.attacks.engine.victim import predict, rescaling, untouched
from trainables.audit.paired import Images
from trainables.audit.planted import Planted, plant_and_search
from trainables.audit.profiles import EVALUATIONS, LAST_STEPS, PROBABILITIES, Profile
from trainables.settings import Norm, View

# Steps of the attack that follows accuracy over the radius, and its radii in units of the audited one. The radius that
# reaches plain grey comes after them.
CURVE_STEPS: Final = 20
CURVE: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)

# How far along the gradient its promise is tested, in units of the radius.
SMALL_STEP: Final = 0.01

# Evaluations whose mean stands for one if the model draws at random.
EOT_DRAWS: Final = 10

# Classes that the margin loss needs.
MARGIN_CLASSES: Final = 4

# The keys of an audit's white-box attacks; `audit` runs them.
ITERATIVE: Final = ("ce raw", "ce normalized")
WHITE_BOX: Final = (*ITERATIVE, "margin", "fab", "deepfool raw", "deepfool normalized")

Progress = Callable[[float, int, str], None]


@dataclass(frozen=True, eq=False)
class Run:
    """One attack on one view.

    Args:
        name: A name for people.
        attack: The attack's label.
        view: The logits that it sees.
        attacked: Which images it attacked, bool (n,).
        broken: Which of them it broke within the radius, bool (n,).
        error: Why it could not be completed; empty if it was.
    """

    name: str
    attack: str
    view: View
    attacked: Images
    broken: Images
    error: str = ""


@dataclass(eq=False)
class Evidence:
    """Everything that the checks judge by, for n images.

    Args:
        radius: The ball's radius, in pixel units.
        norm: The norm of the ball.
        clean: Whether the model classifies the clean image correctly, bool (n,).
        spread: The largest distance between two evaluations of one image, logits scaled to unit norm.
        probabilities: Whether the outputs are probabilities, not logits.
        no_gradient: Whether a loss has no gradient (zero, or not finite) at a correctly classified clean image,
            bool (n,).
        misled: Whether the loss rises by less than half of what the gradient promises, over a small step, bool (n,).
        moved: How far the loss of images that the traced attack left standing has moved over its last steps, as a share
            of its whole rise, (m,).
        runs: Attacks by their key.
        curve: Radii and whether each probe survives within them, in ascending order: [(radius, bool (p,))].
        planted: What the strongest attack found of planted adversarial examples.
        claims_planted: The same for the attacks behind each claim, by its name.
        silent: For claims whose attacks judge only their last iterate: whether an earlier one broke the probe, by the
            claim's name, bool (p,).
    """

    radius: float
    norm: Norm
    clean: Images
    spread: float = 0.0
    probabilities: bool = False
    no_gradient: Images = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    misled: Images = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    moved: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    runs: dict[str, Run] = field(default_factory=dict)
    curve: list[tuple[float, Images]] = field(default_factory=list)
    planted: Planted | str = ""
    claims_planted: dict[str, Planted | str] = field(default_factory=dict)
    silent: dict[str, Images] = field(default_factory=dict)

    def standing(self, *keys: str) -> Images:
        """Which images survive the named runs (all without names), bool (n,)."""
        kept = self.clean.copy()
        for key, run in self.runs.items():
            if key in keys or not keys:
                kept &= ~run.broken
        return kept


class Examiner:
    """Runs attacks and probes on one model and records what they find.

    Args:
        model: Maps images to logits.
        images: (n, c, h, w), in [0, 1].
        labels: (n,).
        radius: The ball's radius, in pixel units.
        norm: The norm of the ball.
        profile: How much is done.
        seed: In [0, 2^32).
        batch_size: Images per pass.
        progress: Receives the number of completed parts, their total, and the name of the part that runs.
        parts: The number of parts.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        radius: float,
        norm: Norm,
        profile: Profile,
        seed: int,
        batch_size: int,
        progress: Progress | None,
        parts: int,
    ) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.radius, self.norm, self.profile = radius, norm, profile
        self.seed, self.batch_size = seed, batch_size
        self._progress, self._parts, self._done = progress or (lambda *_: None), parts, 0
        with untouched(model):
            self.logits = predict(model, images, batch_size)
        self.classes = self.logits.shape[1]
        self.scale = rescaling(self.logits)
        clean = (self.logits.argmax(1) == labels).cpu().numpy()
        self.evidence = Evidence(radius, norm, clean)

    def part(self, name: str) -> Callable[[float], None]:
        """Begins the next part; returns a function that reports its completed share."""
        before = self._done
        self._done += 1
        self._progress(before, self._parts, name)
        return lambda share: self._progress(before + share, self._parts, name)

    def attack(self, key: str, name: str, attack: Attack, view: View, on: Images | None = None) -> None:
        """Runs one attack on the images ``on`` (all if None) and records it under a key."""
        self.run(key, name, attack.label, self.averaged(attack), view, on)

    def averaged(self, attack: Attack) -> Attack:
        """The attack, on the mean of several evaluations if the model draws at random."""
        return replace(attack, eot=EOT_DRAWS) if self.randomised and attack.eot == 1 else attack

    @property
    def randomised(self) -> bool:
        """Whether two evaluations of one image have differed at all."""
        return self.evidence.spread > 0

    def run(self, key: str, name: str, label: str, attack: Attack, view: View, on: Images | None = None) -> None:
        """As `attack`, without averaging."""
        report = self.part(name)
        attacked = self.evidence.clean if on is None else on & self.evidence.clean
        broken, error = np.zeros_like(attacked), ""
        try:
            result = attack(
                self.model,
                self.images,
                self.labels,
                radius=self.radius,
                norm=self.norm,
                view=view,
                seed=attack_seed(self.seed, key),
                batch_size=self.batch_size,
                logits=self.logits,
                standing=torch.from_numpy(attacked).to(self.images.device),
                scale=self.scale,
                progress=report,
            )
            broken = attacked & ~result.kept.cpu().numpy()
        except (RuntimeError, ValueError) as problem:  # a model that no gradient passes through, or too few classes
            error = (str(problem).splitlines() or [type(problem).__name__])[0]
        self.evidence.runs[key] = Run(name, label, view, attacked.copy(), broken, error)

    def look_at_outputs(self) -> None:
        """Finds out whether the model draws at random, and whether its outputs are probabilities."""
        self.part("the model's outputs")
        with untouched(self.model):
            outputs = [predict(self.model, self.images, self.batch_size) for _ in range(EVALUATIONS)]
        units = [nn.functional.normalize(output, dim=1) for output in outputs]
        # Rounding is not randomness: the same images in the same batches give the same bits.
        self.evidence.spread = max(float((unit - units[0]).norm(dim=1).max()) for unit in units[1:])
        first = outputs[0]
        self.evidence.probabilities = bool(
            first.min() > -PROBABILITIES
            and first.max() < 1 + PROBABILITIES
            and ((first.sum(1) - 1).abs() < PROBABILITIES).all()
        )

    def look_at_gradients(self) -> None:
        """Finds out whether there are gradients at the clean images, and whether the losses rise as they promise."""
        self.part("gradients at the clean images")
        none = torch.zeros(len(self.images), dtype=torch.bool, device=self.images.device)
        misled = none.clone()
        size = (1, 2, 3)
        with untouched(self.model):
            for rows in torch.split(torch.arange(len(none), device=none.device), self.batch_size):
                images, labels = self.images[rows].detach().requires_grad_(), self.labels[rows]
                for loss in ("ce", "dlr") if self.classes >= MARGIN_CLASSES else ("ce",):
                    try:
                        with torch.enable_grad():
                            values = objective(loss, self.model(images), labels)
                            (gradient,) = torch.autograd.grad(values.sum(), images)
                    except RuntimeError:  # nothing that leads back to the images
                        none[rows] = misled[rows] = True
                        continue
                    slope = torch.linalg.vector_norm(gradient, dim=size)
                    none[rows] |= ~(slope.isfinite() & (slope > 0))
                    if loss == "ce":
                        change = self.radius * SMALL_STEP * gradient / slope.clamp_min(1e-30).view(-1, 1, 1, 1)
                        moved = (images.detach() + change).clamp(0, 1)  # the box takes a part of the step away
                        promised = (gradient * (moved - images.detach())).sum(size)
                        with torch.no_grad():
                            risen = objective(loss, self.model(moved), labels) - values.detach()
                        # Rounding in fp32 of values this large.
                        noise = 16 * torch.finfo(values.dtype).eps * values.detach().abs().clamp_min(1e-30)
                        misled[rows] |= risen < 0.5 * promised - noise
        self.evidence.no_gradient = none.cpu().numpy() & self.evidence.clean
        self.evidence.misled = misled.cpu().numpy() & self.evidence.clean

    def trace(self) -> None:
        """Measures how far the loss of an attack's survivors moves in its last steps."""
        report = self.part("does the loss still move?")
        probes = slice(self.profile.probes)
        losses = np.full((len(self.images[probes]), self.profile.steps), np.nan)
        attack = _Traced(steps=self.profile.steps, losses=losses)
        try:
            result = attack(
                self.model,
                self.images[probes],
                self.labels[probes],
                radius=self.radius,
                norm=self.norm,
                seed=attack_seed(self.seed, "trace"),
                batch_size=self.batch_size,
                logits=self.logits[probes],
                progress=report,
            )
        except RuntimeError:
            return
        best = np.maximum.accumulate(losses[result.kept.cpu().numpy()], axis=1)
        way = best[:, -1] - best[:, 0]
        last = min(LAST_STEPS, best.shape[1] - 1)
        with np.errstate(invalid="ignore"):
            self.evidence.moved = np.where(way > 0, (best[:, -1] - best[:, -1 - last]) / way, 0.0)

    def follow_radius(self) -> None:
        """Follows accuracy over the radius, from the clean images at each radius; the last one reaches plain grey."""
        probes = slice(self.profile.probes)
        values = self.images[0].numel()
        grey = 0.5 * (math.sqrt(values) if self.norm == "l2" else 1.0)
        radii = [factor * self.radius for factor in CURVE if factor * self.radius < grey] + [grey]
        attack = self.averaged(APGD(steps=CURVE_STEPS))
        report = self.part("accuracy over the radius")
        for done, radius in enumerate(radii):
            kept = torch.from_numpy(self.evidence.clean[probes]).to(self.images.device)
            for view in ("raw", "normalized"):
                try:
                    kept = attack(
                        self.model,
                        self.images[probes],
                        self.labels[probes],
                        radius=radius,
                        norm=self.norm,
                        view=view,
                        seed=attack_seed(self.seed, f"radius {done}"),
                        batch_size=self.batch_size,
                        logits=self.logits[probes],
                        standing=kept,
                    ).kept
                except RuntimeError:
                    return
            self.evidence.curve.append((radius, kept.cpu().numpy()))
            report((done + 1) / len(radii))

    def plant(self, name: str, attacks: Sequence[Attack]) -> Planted | str:
        """What attacks find of planted adversarial examples."""
        report = self.part(name)
        return plant_and_search(
            self.model,
            self.images,
            self.evidence.clean,
            attacks,
            radius=self.radius,
            norm=self.norm,
            count=self.profile.planted,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=report,
        )


@dataclass(frozen=True, kw_only=True)
class _Traced(APGD):
    """APGD on cross entropy that records each image's loss at each step.

    Args:
        losses: Where the losses go, (images, steps); what was NaN stays so once the image is broken.
    """

    losses: NDArray[np.float64]

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        """One move, recorded."""
        move = int(batch.memory["moves"][0])
        moved = super().step(batch, logits)
        self.losses[batch.index.cpu().numpy(), move] = batch.memory["loss"].cpu().numpy()
        return moved
