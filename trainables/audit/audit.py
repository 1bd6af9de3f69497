"""The audit of a robust number: what it claims, what holds, and why.

A verdict is on a pair: a claimed number and the evaluation behind it (`Claim`). ``masked``: a stronger evaluation
lowers it by more than chance and `profiles.TOLERANCE`; ``suspicious``: a check of it, or of the model, fails, or the
strongest evaluation could not be completed; ``sound``: neither. A gap between two weak attacks is a fact about these
attacks: it is held against the evaluation that used the weaker one, never against the model. The verified accuracy is
the per-image worst case over everything that was run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from trainables.attacks import Transfer, attack_seed, make_attack
from trainables.attacks.ball import Ball
from trainables.attacks.base import untouched
from trainables.audit.checks import WHITE_BOX, claim_checks, general_checks
from trainables.audit.evidence import MARGIN_CLASSES, Examiner, Progress
from trainables.audit.paired import Images
from trainables.audit.profiles import PROFILES, QUICK, Profile
from trainables.audit.verdict import WORDS, Audit, Check, Claim, Gap, Verdict, Word, judge, worst
from trainables.settings import TORCHATTACKS_PREFIX, AttackSettings, Norm, View

# Steps of the cheap worst case, and how many wrong classes it goes towards.
CHEAP_STEPS: Final = 50
CHEAP_TARGETS: Final = 3

__all__ = [
    "PROFILES",
    "QUICK",
    "WORDS",
    "Audit",
    "Check",
    "Claim",
    "Gap",
    "Profile",
    "Verdict",
    "Word",
    "audit",
    "cheap_claim",
    "worst",
]

# What is claimed where nobody claims anything. Weaker ones are masked: of 500 images of a LeNet-5 trained with SCE, PGD
# with both losses left 151 standing where an audit left 133; of an adversarially trained one, APGD with both losses but
# without targets left 320 against 308.
CHEAP: Final = (
    AttackSettings(name="apgd", steps=CHEAP_STEPS),
    AttackSettings(
        name="apgd", loss="dlr", target="likeliest", targets=CHEAP_TARGETS, steps=CHEAP_STEPS, remaining=True
    ),
)
CHEAP_VIEWS: Final[tuple[View, ...]] = ("normalized", "raw")

# Runs without which a claim cannot be called sound.
_NEEDED: Final = ("ce raw", "ce normalized", "margin", "square")


def audit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    claims: Sequence[Claim] = (),
    *,
    radius: float,
    norm: Norm = "l2",
    profile: Profile = QUICK,
    seed: int = 0,
    batch_size: int = 128,
    surrogate: nn.Module | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Attack a model as strongly as the profile allows, check these attacks, and judge what was claimed.

    The model and the process's random states are the same afterwards. An image counts as broken at the first wrong
    answer that any attack sees within the radius; of a model that draws at random, that is the mean of several draws.

    Args:
        model: Maps images to logits; on the images' device.
        images: (n, c, h, w), fp32 in [0, 1]; n at least the profile's.
        labels: (n,), int64.
        claims: Numbers measured on the first of these images, at this radius; without any, the worst case of a cheap
            evaluation is claimed and judged.
        radius: Of the ball, above 0, in pixel units.
        norm: Of the ball.
        profile: How much is done.
        seed: In [0, 2^32).
        batch_size: Images a pass.
        surrogate: Another model of the same classes, whose adversarial examples are tried.
        progress: Told how many parts are done, how many there are, and which one runs.

    Raises:
        ValueError: Fewer images than the profile needs, or a claim on more images than these.
    """
    began = time.monotonic()
    if len(images) < profile.images:
        raise ValueError(
            f"images must be at least {profile.images} for the profile {profile.name}, got {len(images)}; "
            "give more of them"
        )
    for claim in claims:
        if not 0 < len(claim.kept) <= len(images):
            raise ValueError(
                f"claims must be on 1 to {len(images)} images, got {len(claim.kept)} for {claim.name}; give its images"
            )
    examiner = Examiner(
        model,
        images,
        labels,
        radius=radius,
        norm=norm,
        profile=profile,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
        parts=_parts(profile, norm, claims, surrogate),
    )
    if not claims:
        examiner.part("the claim: a cheap worst case")
        claims = [cheap_claim(model, images, labels, radius=radius, norm=norm, seed=seed, batch_size=batch_size)]
    _examine(examiner, claims, surrogate)
    evidence = examiner.evidence
    verified = evidence.standing()
    for claim in claims:
        verified[: len(claim.kept)] &= claim.kept
    checks = general_checks(evidence)
    for claim in claims:
        checks += claim_checks(evidence, claim)
    errors = [f"{run.name}: {run.error}" for key in _NEEDED if (run := evidence.runs[key]).error]
    return Audit(
        profile=profile.name,
        radius=radius,
        norm=norm,
        seed=seed,
        clean=evidence.clean,
        verified=verified,
        verdicts=tuple(judge(claim, verified, checks, errors) for claim in claims),
        checks=tuple(checks),
        runs=tuple(
            {
                "name": run.name,
                "attack": run.attack,
                "view": run.view,
                "attacked": int(run.attacked.sum()),
                "broken": int(run.broken.sum()),
                "error": run.error,
            }
            for run in evidence.runs.values()
        ),
        curve=tuple(evidence.curve),
        randomised=examiner.randomised,
        seconds=time.monotonic() - began,
    )


def cheap_claim(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    norm: Norm = "l2",
    seed: int = 0,
    batch_size: int = 128,
    attacks: Sequence[AttackSettings] = CHEAP,
    views: Sequence[View] = CHEAP_VIEWS,
    name: str = "robust_accuracy",
) -> Claim:
    """The worst case of an evaluation as a claim; each attack sees what those before it have left.

    Args:
        model: Maps images to logits.
        images: (n, c, h, w).
        labels: (n,).
        radius: Of the ball, in pixel units.
        norm: Of the ball.
        seed: In [0, 2^32).
        batch_size: Images a pass.
        attacks: What is run; the margin loss is left out where there are too few classes for it.
        views: The logits that the attacks see.
        name: What the number is called.
    """
    with untouched(model), torch.no_grad():
        classes = model(images[:1]).shape[1]
    used = tuple(attack for attack in attacks if attack.loss != "dlr" or classes >= MARGIN_CLASSES)
    kept: Tensor | None = None
    for settings in used:
        attack = make_attack(settings)
        for view in views:
            kept = attack(
                model,
                images,
                labels,
                radius=radius,
                norm=norm,
                view=view,
                seed=attack_seed(seed, settings.label),
                batch_size=batch_size,
                standing=kept,
            ).kept
    assert kept is not None
    return Claim(name, used, tuple(views), kept.cpu().numpy())


def _parts(profile: Profile, norm: Norm, claims: Sequence[Claim], surrogate: nn.Module | None) -> int:
    """How many parts `_examine` has, with the cheap claim's."""
    runs = 7 + profile.fab + 2 * (norm == "l2") + (surrogate is not None)
    probes = 5
    return runs + probes + sum(1 + _silently(claim) for claim in claims) + (0 if claims else 2)


def _examine(examiner: Examiner, claims: Sequence[Claim], surrogate: nn.Module | None) -> None:
    """Everything that is run: probes, white-box attacks on all images, the others on what these leave."""
    profile, evidence = examiner.profile, examiner.evidence
    examiner.look_at_outputs()
    examiner.look_at_gradients()

    ce = AttackSettings(name="apgd", steps=profile.steps)
    examiner.attack("ce raw", "APGD, cross entropy, raw logits", ce, "raw")
    examiner.attack("ce normalized", "APGD, cross entropy, normalised logits", ce, "normalized")
    targets = min(profile.targets, examiner.classes - 1)
    loss = "dlr" if examiner.classes >= MARGIN_CLASSES else "ce"
    margin = AttackSettings(name="apgd", loss=loss, target="likeliest", targets=targets, steps=profile.steps)  # type: ignore[arg-type]
    examiner.attack("margin", "APGD towards the likeliest classes, margins", margin, "raw")
    examiner.attack("single", "one step, cross entropy, raw logits", AttackSettings(name="pgd", steps=1), "raw")
    if examiner.norm == "l2":
        for view in ("raw", "normalized"):
            examiner.attack(f"deepfool {view}", f"DeepFool, {view} logits", AttackSettings(name="deepfool"), view)
    if profile.fab:
        fab = AttackSettings(name="fab", target="likeliest", targets=targets)
        examiner.attack("fab", "FAB towards the likeliest classes", fab, "raw", evidence.standing(*WHITE_BOX))

    longer = replace(ce, steps=2 * profile.steps, restarts=profile.restarts)
    left = evidence.standing(*WHITE_BOX)
    examiner.attack("longer", "APGD, cross entropy, twice the steps", longer, "raw", left)
    square = AttackSettings(name="square", queries=profile.queries)
    examiner.attack("square", "Square, without gradients", square, "raw", left)
    noise = AttackSettings(name="noise", queries=profile.draws)
    examiner.attack("noise", "random points of the ball", noise, "raw", left)
    if surrogate is not None:
        examiner.run(
            "transfer",
            "APGD on another model",
            f"transfer-{ce.label}",
            lambda: Transfer(make_attack(ce), surrogate),
            "raw",
            left,
        )

    examiner.trace()
    examiner.follow_radius()
    evidence.planted = examiner.plant("planted adversarial examples", [make_attack(examiner.averaged(ce))])
    for claim in claims:
        attacks = [make_attack(attack) for attack in claim.attacks]
        if attacks:
            found = examiner.plant(f"planted adversarial examples, {claim.name}", attacks)
            evidence.claims_planted[claim.name] = found
        if _silently(claim):
            evidence.silent[claim.name] = _met_on_the_way(examiner, claim)


def _silently(claim: Claim) -> bool:
    """Whether attacks behind a claim may pass over what they find."""
    return any(attack.name.startswith(TORCHATTACKS_PREFIX) for attack in claim.attacks)


def _met_on_the_way(examiner: Examiner, claim: Claim) -> Images:
    """Probes that survive the claim's attacks of torchattacks although one of them saw a wrong answer, bool (p,)."""
    examiner.part(f"what its attacks pass over, {claim.name}")
    count = min(examiner.profile.probes, examiner.batch_size)
    rows = torch.from_numpy(np.flatnonzero(examiner.evidence.clean)[:count]).to(examiner.images.device)
    images, labels = examiner.images[rows], examiner.labels[rows]
    ball = Ball(examiner.radius, examiner.norm)
    kept = torch.ones_like(labels, dtype=torch.bool)
    seen = ~kept
    for settings in claim.attacks:
        if not settings.name.startswith(TORCHATTACKS_PREFIX):
            continue
        for view in claim.views:
            witness = _Witness(examiner.model, images, labels, ball)
            try:
                result = make_attack(settings)(
                    witness,
                    images,
                    labels,
                    radius=examiner.radius,
                    norm=examiner.norm,
                    view=view,
                    seed=attack_seed(examiner.seed, settings.label),
                    batch_size=count,
                    logits=examiner.logits[rows],
                )
            except (RuntimeError, ValueError, IndexError):
                continue
            kept &= result.kept
            seen |= witness.seen
    silent: Images = (kept & seen).cpu().numpy()
    return silent


class _Witness(nn.Module):
    """A model that notes which images it was shown a misclassified point of, inside the ball.

    Passes of other numbers of images are not looked at: nobody knows which ones they are.
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
