"""Running an audit.

A verdict is on a pair: a claimed number and the evaluation behind it (`Claim`). ``masked``: a stronger evaluation
lowers it by more than chance and `verdict.TOLERANCE`; ``suspicious``: a check of it, or of the model, fails, or the
strongest evaluation could not be completed; ``sound``: neither. A gap between two weak attacks says something about
these attacks: it counts against the evaluation that used the weaker one, never against the model. The verified accuracy
is the per-image worst case over everything that was run. It is an upper bound and no more where a check of the model
or of the audit's own attacks fails, unless attacks made for masked gradients got past what it showed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from trainables.attacks import Attack, attack_seed
from trainables.attacks.apgd import APGD
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.engine.attack import Progress, part_of
from trainables.attacks.engine.bpda import StraightThrough
from trainables.attacks.engine.transfer import Transfer
from trainables.attacks.engine.victim import isolated_randomness, untouched
from trainables.attacks.fab import FAB
from trainables.attacks.fmn import FMN
from trainables.attacks.noise import Noise
from trainables.attacks.pgd import PGD
from trainables.attacks.square import Square
from trainables.audit.checks import claim_checks, general_checks, masking_signs, upper_bound
from trainables.audit.evidence import MARGIN_CLASSES, QUICK, WHITE_BOX, Examiner, PartProgress, Profile
from trainables.audit.verdict import Audit, Claim, judge
from trainables.settings import Norm, View

# What is claimed if the caller claims nothing. All nine targets count: the wrong logits of a network trained with I-SCE
# are nearly tied, and of 500 digits 115 survived three targets, 94 nine.
CHEAP: Final = (APGD(steps=50), APGD(loss="dlr", target="likeliest", steps=50, remaining=True))
CHEAP_VIEWS: Final[tuple[View, ...]] = ("normalized", "raw")

# How many more queries Square has on images that stand on a model with masked gradients, and the most.
MORE_QUERIES: Final = 10
MOST_QUERIES: Final = 10_000

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
    progress: PartProgress | None = None,
) -> Audit:
    """Attacks a model as strongly as the profile allows, checks these attacks, and judges what was claimed.

    The model and the process's random states are the same afterwards. An image counts as broken at the first wrong
    answer that any attack sees within the radius; for a model that draws at random, that is the mean of several draws.

    Args:
        model: Maps images to logits; on the images' device.
        images: (n, c, h, w), fp32 in [0, 1]; n at least the profile's.
        labels: (n,), int64.
        claims: Numbers measured on the first of these images, at this radius; without any, the worst case of a cheap
            evaluation is claimed and judged.
        radius: Above 0, in pixel units.
        seed: In [0, 2^32).
        surrogate: Another model with the same classes, whose adversarial examples are tried.
        progress: Receives the number of completed parts, their total, and the name of the part that runs.

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
    parts = _parts(profile, norm, claims, surrogate)
    with isolated_randomness(seed):  # the model may draw at random
        examiner = Examiner(model, images, labels, radius, norm, profile, seed, batch_size, progress, parts)
        if not claims:
            report = examiner.part("the claim: a cheap worst case")
            settings: dict[str, Any] = {"radius": radius, "norm": norm, "seed": seed, "batch_size": batch_size}
            try:
                claims = [cheap_claim(model, images, labels, **settings, progress=report)]
            except RuntimeError:  # no gradient passes the model, so every image stands
                claims = [Claim("robust_accuracy", CHEAP, CHEAP_VIEWS, examiner.evidence.clean.copy())]
        _examine(examiner, claims, surrogate)
    evidence = examiner.evidence
    verified = evidence.standing()
    for claim in claims:
        verified[: len(claim.kept)] &= claim.kept
    checks = general_checks(evidence) + [check for claim in claims for check in claim_checks(evidence, claim)]
    errors = [f"{run.name}: {run.error}" for key in _NEEDED if (run := evidence.runs[key]).error]
    return Audit(
        clean=evidence.clean,
        verified=verified,
        distance=evidence.distance,
        verdicts=tuple(judge(claim, verified, checks, errors) for claim in claims),
        checks=tuple(checks),
        runs=tuple(run.to_json() for run in evidence.runs.values()),
        curve=tuple(evidence.curve),
        randomised=examiner.randomised,
        upper_bound=upper_bound(evidence, checks),
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
    attacks: Sequence[Attack] = CHEAP,
    views: Sequence[View] = CHEAP_VIEWS,
    name: str = "robust_accuracy",
    progress: Progress = lambda _: None,
) -> Claim:
    """The worst case of an evaluation as a claim; each attack sees what earlier ones have left.

    Args as for `audit`, and:
        attacks: The attacks to run; those on the margin loss are left out if there are too few classes for it.
        views: The logits that the attacks see.
        progress: Receives the completed share, in [0, 1].
    """
    with untouched(model), torch.no_grad():
        classes = model(images[:1]).shape[1]
    used = tuple(attack for attack in attacks if getattr(attack, "loss", None) != "dlr" or classes >= MARGIN_CLASSES)
    kept = torch.ones_like(labels, dtype=torch.bool)
    runs = [(attack, view) for attack in used for view in views]
    for done, (attack, view) in enumerate(runs):
        kept = attack(
            model,
            images,
            labels,
            radius=radius,
            norm=norm,
            view=view,
            seed=attack_seed(seed, attack.label),
            batch_size=batch_size,
            standing=kept,
            progress=part_of(progress, done / len(runs), 1 / len(runs)),
        ).kept
    return Claim(name, used, tuple(views), kept.cpu().numpy())


def _parts(profile: Profile, norm: Norm, claims: Sequence[Claim], surrogate: nn.Module | None) -> int:
    """The number of parts of `_examine`, including the cheap claim's."""
    runs = 9 + profile.fab + 2 * (norm == "l2") + (surrogate is not None)
    probes = 5
    return runs + probes + sum(1 + claim.may_miss for claim in claims) + (0 if claims else 2)


def _examine(examiner: Examiner, claims: Sequence[Claim], surrogate: nn.Module | None) -> None:
    """Runs the probes, the white-box attacks on all images, and the others on what these leave."""
    profile, evidence = examiner.profile, examiner.evidence
    examiner.look_at_outputs()
    examiner.look_at_gradients()

    ce = APGD(steps=profile.steps)
    examiner.attack("ce raw", "APGD, cross entropy, raw logits", ce)
    examiner.attack("ce normalized", "APGD, cross entropy, normalised logits", ce, "normalized")
    targets = min(profile.targets, examiner.classes - 1)
    margin = replace(ce, target="likeliest", targets=targets)
    if examiner.classes >= MARGIN_CLASSES:
        margin = replace(margin, loss="dlr")
    examiner.attack("margin", "APGD towards the likeliest classes, margins", margin)
    examiner.attack("single", "one step, cross entropy, raw logits", PGD(steps=1))
    if examiner.norm == "l2":
        examiner.attack("deepfool raw", "DeepFool, raw logits", DeepFool())
        examiner.attack("deepfool normalized", "DeepFool, normalised logits", DeepFool(), "normalized")
    if profile.fab:
        fab = FAB(target="likeliest", targets=targets)
        examiner.attack("fab", "FAB towards the likeliest classes", fab, on=evidence.standing(*WHITE_BOX))
    # On what still stands this finds more than a restart of all targets does, at an eighth of its cost.
    fmn = FMN(steps=2 * profile.steps)
    examiner.attack("fmn raw", "FMN, raw logits", fmn, on=evidence.standing(*WHITE_BOX))
    examiner.attack("fmn normalized", "FMN, normalised logits", fmn, "normalized", on=evidence.standing(*WHITE_BOX))

    left = evidence.standing(*WHITE_BOX)
    longer = replace(ce, steps=2 * profile.steps, restarts=profile.restarts)
    examiner.attack("longer", "APGD, cross entropy, twice the steps", longer, on=left)
    examiner.attack("square", "Square, without gradients", Square(queries=profile.queries), on=left)
    examiner.attack("noise", "random points of the ball", Noise(queries=profile.draws), on=left)
    if surrogate is not None:
        transfer = Transfer(attack=ce, surrogate=surrogate)
        examiner.attack("transfer", "APGD on another model", transfer, on=left, label=f"transfer-{ce.label}")

    if masking_signs(evidence):
        _follow(examiner)

    examiner.trace()
    examiner.follow_radius()
    evidence.planted = examiner.plant("planted adversarial examples", [examiner.averaged(ce)])
    for claim in claims:
        result = examiner.plant(f"planted adversarial examples, {claim.name}", claim.attacks)
        evidence.claims_planted[claim.name] = result
        if claim.may_miss:
            evidence.silent[claim.name] = examiner.silent(claim)


def _follow(examiner: Examiner) -> None:
    """Attacks a model whose gradients are masked: through rounding, on rescaled logits, and without any gradient.

    Models that draw at random are attacked on the mean of several draws from the beginning.
    """
    profile, evidence = examiner.profile, examiner.evidence
    through, ce = StraightThrough(examiner.model), APGD(steps=profile.steps, restarts=profile.restarts)
    examiner.parts += 4
    without, _ = examiner.gradients(through, ["ce"])
    evidence.straight_through = not without.any()
    margin = replace(ce, loss="dlr" if examiner.classes >= MARGIN_CLASSES else "pm")
    for key, losses, attack in (("bpda ce", "cross entropy", ce), ("bpda margin", "margins", margin)):
        name, label = f"APGD through rounding, {losses}", f"bpda-{attack.label}"
        examiner.attack(key, name, attack, on=evidence.standing(), label=label, model=through)
    examiner.attack("rescaled", "APGD, cross entropy, rescaled logits", ce, "rescaled", on=evidence.standing())
    patient = Square(queries=min(MORE_QUERIES * profile.queries, MOST_QUERIES))
    examiner.attack("patient square", "Square, many queries", patient, on=evidence.standing())
