"""What an audit runs: attacks that add up to one worst case, and probes of whether these attacks can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.attacks import Attack, AttackResult, Batch, attack_seed
from trainables.attacks.apgd import APGD
from trainables.attacks.engine.attack import AttackLoss
from trainables.attacks.engine.ball import Ball
from trainables.attacks.engine.margins import objective
from trainables.attacks.engine.transfer import Transfer
from trainables.attacks.engine.victim import predict, rescaling, untouched
from trainables.audit.planted import Planted, plant_and_search
from trainables.audit.verdict import Claim, Images
from trainables.settings import AUDITED_IMAGES, Norm, View

# Steps of the attack that follows accuracy over the radius, and its radii in units of the audited one. The radius that
# reaches plain grey comes after them.
CURVE_STEPS: Final = 20
CURVE: Final = (0.25, 0.5, 1.0, 1.5, 2.0, 4.0)

EVALUATIONS: Final = 5  # that show whether the model draws at random; AutoAttack's, like the next
RANDOMNESS: Final = 1e-4  # a larger distance between two evaluations, logits scaled to unit norm, is no rounding
PROBABILITIES: Final = 1e-5  # how far outputs may differ from probabilities
LAST_STEPS: Final = 10  # in which an attack's loss must not move any more (Pintor et al. 2022, indicator I4)
SMALL_STEP: Final = 0.01  # how far along the gradient its promise is tested, in units of the radius
EOT_DRAWS: Final = 10  # evaluations whose mean stands for one if the model draws at random
MARGIN_CLASSES: Final = 4  # the fewest classes for the margin loss

# The keys of an audit's white-box attacks; `audit` runs them.
ITERATIVE: Final = ("ce raw", "ce normalized")
WHITE_BOX: Final = (
    *ITERATIVE,
    "margin",
    "deepfool raw",
    "deepfool normalized",
    "fab",
    "fmn raw",
    "fmn normalized",
)

_TINY: Final = 1e-30  # far below any gradient or loss that counts, and a normal number in fp32


@dataclass(frozen=True)
class Profile:
    """How much an audit does."""

    name: str
    images: int  # the fewest that it needs
    steps: int  # APGD's, on each view and towards each target
    targets: int  # how many of the likeliest wrong classes are targeted
    queries: int  # Square's, for each image that the white-box attacks leave
    draws: int  # random points of the ball, for each of those images
    fab: bool  # whether FAB runs too, which completes AutoAttack
    restarts: int  # of the longer attack, which must not find more
    probes: int  # images on which accuracy is followed over the radius
    planted: int  # images for which an adversarial example is planted


QUICK: Final = Profile(
    name="quick",
    images=AUDITED_IMAGES["quick"],
    steps=50,
    targets=9,
    queries=300,
    draws=200,
    fab=False,
    restarts=1,
    probes=100,
    planted=32,
)
# AutoAttack as its authors run it: 100 steps, 9 targets, 5,000 queries. Carlini et al. 2019: 10,000 random draws.
REFERENCE: Final = Profile(
    name="reference",
    images=AUDITED_IMAGES["reference"],
    steps=100,
    targets=9,
    queries=5000,
    draws=10_000,
    fab=True,
    restarts=5,
    probes=500,
    planted=128,
)
PROFILES: Final[Mapping[str, Profile]] = {profile.name: profile for profile in (QUICK, REFERENCE)}

# Receives the number of completed parts, their total, and the name of the part that runs.
PartProgress = Callable[[float, int, str], None]


@dataclass(frozen=True, eq=False)
class Run:
    """One attack on one view."""

    name: str  # for people
    attack: str  # its label
    view: View
    attacked: Images  # bool (n,)
    broken: Images  # those that fell within the radius, bool (n,)
    error: str = ""  # why it could not be completed

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, with the numbers of images."""
        return vars(self) | {"attacked": int(self.attacked.sum()), "broken": int(self.broken.sum())}


@dataclass(eq=False)
class Evidence:
    """Everything that the checks judge by, for n images."""

    clean: Images  # whether the model classifies the clean image correctly, bool (n,)
    distance: NDArray[np.float32]  # as in `Audit`, (n,)
    # Whether a loss has no gradient (zero, or not finite) at a correctly classified clean image, bool (n,).
    no_gradient: Images
    # Whether the loss rises by less than half of what the gradient promises, over a small step, bool (n,).
    misled: Images
    spread: float = 0.0  # the largest distance between two evaluations of one image, logits scaled to unit norm
    probabilities: bool = False  # whether the outputs are probabilities, not logits
    # How far the losses that the traced attack left standing moved in its last steps, as shares of their rises, (m,).
    moved: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    runs: dict[str, Run] = field(default_factory=dict)  # by the attack's key
    # Radii, ascending, and whether each probe survives within them, bool (p,).
    curve: list[tuple[float, Images]] = field(default_factory=list)
    # What the strongest attack broke of planted adversarial examples; the attacks behind each claim, by its name.
    planted: Planted | str = ""
    claims_planted: dict[str, Planted | str] = field(default_factory=dict)
    # By the claim's name, for attacks that judge only their last iterate: whether an earlier one broke the probe, (p,).
    silent: dict[str, Images] = field(default_factory=dict)
    straight_through: bool = False  # whether gradients that let rounding pass lead where the model's own do not

    def standing(self, *keys: str) -> Images:
        """Which images survive the named runs (all without names), bool (n,)."""
        kept = self.clean.copy()
        for key, run in self.runs.items():
            if key in keys or not keys:
                kept &= ~run.broken
        return kept


@dataclass(eq=False)
class Examiner:
    """Runs attacks and probes on one model and records what they show; arguments as for `audit`."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    radius: float
    norm: Norm
    profile: Profile
    seed: int
    batch_size: int
    progress: PartProgress | None
    parts: int  # the total that progress reports

    def __post_init__(self) -> None:
        self._begun = 0
        with untouched(self.model):
            self.logits = predict(self.model, self.images, self.batch_size)
        self.classes = self.logits.shape[1]
        self.scale = rescaling(self.logits)
        clean = (self.logits.argmax(1) == self.labels).cpu().numpy()
        distance = np.where(clean, np.inf, 0).astype(np.float32)
        self.evidence = Evidence(clean, distance, no_gradient=np.zeros_like(clean), misled=np.zeros_like(clean))

    def part(self, name: str) -> Callable[[float], None]:
        """Begins the next part; returns a function that reports its completed share."""
        before, self._begun = self._begun, self._begun + 1

        def report(share: float) -> None:
            if self.progress is not None:
                self.progress(before + share, self.parts, name)

        report(0.0)
        return report

    @property
    def randomised(self) -> bool:
        """Whether evaluations of one image differ by more than rounding, whose order may change on a GPU."""
        return self.evidence.spread > RANDOMNESS

    def averaged(self, attack: Attack) -> Attack:
        """The attack, on the mean of several evaluations if the model draws at random; a transfer stays as it is."""
        single = attack.eot == 1 and not isinstance(attack, Transfer)
        return replace(attack, eot=EOT_DRAWS) if self.randomised and single else attack

    def attack(
        self,
        key: str,
        name: str,
        attack: Attack,
        view: View = "raw",
        on: Images | None = None,
        label: str = "",
        model: nn.Module | None = None,
    ) -> None:
        """Runs an attack on the images ``on`` (all if None) and records it under a key, by its own or another label.

        ``model`` stands for the audited one, and gives the same logits.
        """
        report = self.part(name)
        attacked = self.evidence.clean if on is None else on & self.evidence.clean
        broken, error = np.zeros_like(attacked), ""
        standing = torch.from_numpy(attacked).to(self.images.device)
        try:
            result = self._result(
                self.averaged(attack),
                key,
                model=model or self.model,
                view=view,
                standing=standing,
                scale=self.scale,
                progress=report,
            )
            broken = attacked & ~result.kept.cpu().numpy()
            self.evidence.distance = np.minimum(self.evidence.distance, result.distance.cpu().numpy())
        except (RuntimeError, ValueError) as problem:  # a model that no gradient passes through, or too few classes
            error = (str(problem).splitlines() or [type(problem).__name__])[0]
        self.evidence.runs[key] = Run(name, label or attack.label, view, attacked.copy(), broken, error)

    def look_at_outputs(self) -> None:
        """Finds out whether the model draws at random, and whether its outputs are probabilities."""
        self.part("the model's outputs")
        with untouched(self.model):
            outputs = [predict(self.model, self.images, self.batch_size) for _ in range(EVALUATIONS)]
        units = [nn.functional.normalize(output, dim=1) for output in outputs]
        self.evidence.spread = max(float((unit - units[0]).norm(dim=1).max()) for unit in units[1:])
        first = outputs[0]
        self.evidence.probabilities = bool(
            first.min() > -PROBABILITIES
            and first.max() < 1 + PROBABILITIES
            and ((first.sum(1) - 1).abs() < PROBABILITIES).all()
        )

    def look_at_gradients(self) -> None:
        """Records whether there are gradients at the clean images, and whether the losses rise as they promise."""
        self.part("gradients at the clean images")
        losses: tuple[AttackLoss, ...] = ("ce", "dlr") if self.classes >= MARGIN_CLASSES else ("ce",)
        self.evidence.no_gradient, self.evidence.misled = self.gradients(self.model, losses)

    def gradients(self, model: nn.Module, losses: Sequence[AttackLoss]) -> tuple[Images, Images]:
        """At which clean images one of the losses has no gradient, and where ``ce`` does not rise as promised, (n,)."""
        none = torch.zeros(len(self.images), dtype=torch.bool, device=self.images.device)
        misled = none.clone()
        with untouched(model):
            for rows in torch.split(torch.arange(len(none), device=none.device), self.batch_size):
                images, labels = self.images[rows].detach().requires_grad_(), self.labels[rows]
                for loss in losses:
                    try:
                        with torch.enable_grad():
                            values = objective(loss, model(images), labels)
                            (gradient,) = torch.autograd.grad(values.sum(), images)
                    except RuntimeError:  # nothing that leads back to the images
                        none[rows] = misled[rows] = True
                        continue
                    slope = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
                    none[rows] |= ~(slope.isfinite() & (slope > 0)).flatten()
                    if loss == "ce":
                        step = self.radius * SMALL_STEP * gradient / slope.clamp_min(_TINY)
                        misled[rows] |= self._misled(model, images.detach(), labels, values.detach(), gradient, step)
        return none.cpu().numpy() & self.evidence.clean, misled.cpu().numpy() & self.evidence.clean

    @torch.no_grad()
    def _misled(
        self, model: nn.Module, images: Tensor, labels: Tensor, losses: Tensor, gradient: Tensor, step: Tensor
    ) -> Tensor:
        """Whether a step raises cross entropy by less than half of what the gradient promises, bool (b,)."""
        moved = (images + step).clamp(0, 1)  # the box takes a part of the step away
        promised = (gradient * (moved - images)).sum((1, 2, 3))
        risen = objective("ce", model(moved), labels) - losses
        rounding = 16 * torch.finfo(losses.dtype).eps * losses.abs().clamp_min(_TINY)  # of values this large
        return risen < 0.5 * promised - rounding

    def trace(self) -> None:
        """Measures how far the loss of an attack's survivors moves in its last steps."""
        report = self.part("does the loss still move?")
        probes = slice(self.profile.probes)
        losses = np.full((len(self.images[probes]), self.profile.steps), np.nan)
        attack = _Traced(steps=self.profile.steps, losses=losses)
        try:
            result = self._result(attack, "trace", probes, progress=report)
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
        grey = 0.5 * (math.sqrt(self.images[0].numel()) if self.norm == "l2" else 1.0)
        radii = [factor * self.radius for factor in CURVE if factor * self.radius < grey] + [grey]
        attack = self.averaged(APGD(steps=CURVE_STEPS))
        report = self.part("accuracy over the radius")
        for done, radius in enumerate(radii):
            kept = torch.from_numpy(self.evidence.clean[probes]).to(self.images.device)
            for view in ("raw", "normalized"):
                try:
                    kept = self._result(attack, f"radius {done}", probes, radius=radius, view=view, standing=kept).kept
                except RuntimeError:
                    return
            self.evidence.curve.append((radius, kept.cpu().numpy()))
            report((done + 1) / len(radii))

    def plant(self, name: str, attacks: Sequence[Attack]) -> Planted | str:
        """What attacks break of planted adversarial examples."""
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
            progress=self.part(name),
        )

    def silent(self, claim: Claim) -> Images:
        """Which probes survive the claim's attacks judged at their end although one saw a wrong answer, bool (p,)."""
        self.part(f"what its attacks pass over, {claim.name}")
        count = min(self.profile.probes, self.batch_size)
        rows = torch.from_numpy(np.flatnonzero(self.evidence.clean)[:count]).to(self.images.device)
        kept = torch.ones_like(rows, dtype=torch.bool)
        seen = ~kept
        for attack in claim.attacks:
            for view in claim.views if attack.judged_at_end else ():
                witness = _Witness(self.model, self.images[rows], self.labels[rows], Ball(self.radius, self.norm))
                try:
                    result = self._result(attack, attack.label, rows, model=witness, view=view, batch_size=count)
                except (RuntimeError, ValueError, IndexError):
                    continue
                kept &= result.kept
                seen |= witness.seen
        silent: Images = (kept & seen).cpu().numpy()
        return silent

    def _result(self, attack: Attack, key: str, rows: slice | Tensor = slice(None), **changes: Any) -> AttackResult:
        """What an attack does to some of the images; what it draws derives from the seed and the key."""
        settings: dict[str, Any] = {
            "model": self.model,
            "radius": self.radius,
            "norm": self.norm,
            "seed": attack_seed(self.seed, key),
            "batch_size": self.batch_size,
            "logits": self.logits[rows],
        }
        return attack(images=self.images[rows], labels=self.labels[rows], **settings | changes)


@dataclass(frozen=True, kw_only=True)
class _Traced(APGD):
    """APGD on cross entropy that records each image's loss at each step."""

    losses: NDArray[np.float64]  # where they go, (images, steps); what was NaN stays so once the image is broken

    def step(self, batch: Batch, logits: Tensor) -> Tensor:
        move = int(batch.memory["moves"][0])
        moved = super().step(batch, logits)
        self.losses[batch.index.cpu().numpy(), move] = batch.memory["loss"].cpu().numpy()
        return moved


class _Witness(nn.Module):
    """A model that records for which images it has seen a misclassified point inside the ball.

    Passes of other numbers of images are ignored, because it is unknown which images they hold.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, ball: Ball) -> None:
        super().__init__()
        self.model = model
        self._images, self._labels, self._ball = images, labels, ball
        self.seen = torch.zeros_like(labels, dtype=torch.bool)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        if len(images) == len(self._labels):
            inside = self._ball.holds(self._ball.distance(images.detach(), self._images))
            self.seen |= inside & (logits.detach().argmax(1) != self._labels)
        return logits
