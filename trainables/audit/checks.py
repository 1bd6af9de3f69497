"""The published checks: of the model, of the audit's own attacks, and of the evaluation behind each claim.

Each turns evidence into a value, a threshold, and a sentence for people. What a claim's parts say of each other never
counts against it: a gap between two losses does not fail the worst case over both.

Thresholds that are ours are frozen on the calibration cases of ``tests/benchmarks/audit_rates.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from trainables.audit.evidence import ITERATIVE, RANDOMNESS, WHITE_BOX, Evidence
from trainables.audit.planted import Planted
from trainables.audit.verdict import (
    SIGNIFICANCE,
    TOLERANCE,
    Check,
    Claim,
    Gap,
    Images,
    State,
    exact_interval,
    mcnemar,
)

# AutoAttack's flags are in ``checks.py`` of the authors' code. Beside the papers named here: Athalye et al. 2018,
# "Obfuscated gradients give a false sense of security".
CROCE: Final = "Croce and Hein 2020, AutoAttack's own flags"
CARLINI: Final = "Carlini et al. 2019, On evaluating adversarial robustness"
PINTOR: Final = "Pintor et al. 2022, Indicators of attack failure"

SQUARE_GAP: Final = 0.002  # of AutoAttack's ``check_square_sr``
STILL_MOVING: Final = 0.05  # of Pintor et al., indicator I4, for a loss scaled to [0, 1]


@dataclass(frozen=True)
class _Sign:
    """A sign that an evaluation is not to be trusted, and what a `Check` for it says."""

    name: str
    source: str
    good: str  # the sentence if it passes; {percent} stands for the value, other fields for the words given
    bad: str
    threshold: float = TOLERANCE  # the largest value that passes, or the smallest with ``at_least``
    at_least: bool = False

    def check(self, value: float, claim: Claim | None = None, passed: bool | None = None, **words: object) -> Check:
        """A check that was done; it passes where the value does not exceed the threshold, unless ``passed`` says so."""
        if passed is None:
            passed = value <= self.threshold
        sentence = (self.good if passed else self.bad).format(percent=100 * value, **words)
        name = claim.name if claim else None
        state: State = "passed" if passed else "failed"
        return Check(self.name, self.source, name, value, self.threshold, self.at_least, state, sentence)

    def not_done(self, why: str, claim: Claim | None = None) -> Check:
        name = claim.name if claim else None
        return Check(self.name, self.source, name, None, self.threshold, self.at_least, "not done", why)


# Two evaluations of one image must agree. AutoAttack's ``check_randomized``: five passes, logits scaled to unit norm,
# no distance above 1e-4.
_RANDOMISED: Final = _Sign(
    "randomised output",
    CROCE,
    good="The model gives the same answer each time.",
    bad="The model draws at random: one evaluation of an image says little, and an attack that follows one draw's "
    "gradient is led astray. Only attacks on the mean of many draws count.",
    threshold=RANDOMNESS,
)
# The model must return logits. AutoAttack's ``check_range_output``: outputs in [0, 1] that add up to 1, within 1e-5.
_PROBABILITIES: Final = _Sign(
    "probabilities, not logits",
    CROCE,
    good="The model returns logits.",
    bad="The model returns probabilities: a second softmax flattens them, and attacks lose their gradient.",
    threshold=0.0,
)
# There must be a gradient to follow. AutoAttack's ``check_zero_gradients`` (any image); Pintor et al., indicator I1. At
# the clean images, of log odds and of the margin loss, which no confidence of the model makes vanish in rounding.
_NO_GRADIENT: Final = _Sign(
    "zero gradients",
    CROCE,
    good="Every image has a gradient.",
    bad="{percent:.1f} % of the images have no gradient at all: attacks that follow it stand still, which is no "
    "robustness.",
    threshold=0.0,
)
# A small step along the gradient must raise the loss as the gradient promises. Athalye et al. (shattered gradients);
# Pintor et al., indicator I2. Its form and threshold are ours: half of the promise over a step of 1 % of the radius.
_MISLEADING: Final = _Sign(
    "misleading gradients",
    PINTOR,
    good="The loss rises as its gradient promises.",
    bad="On {percent:.1f} % of the images the loss does not rise as its gradient promises: attacks that follow it are "
    "led astray.",
    threshold=0.1,
)
# An attack that sees no gradient must not break what those that see it leave. AutoAttack's ``check_square_sr``;
# Carlini et al.
_SQUARE: Final = _Sign(
    "Square beats white-box",
    CROCE,
    good="An attack that sees no gradient finds nothing more.",
    bad="An attack that sees no gradient breaks {percent:.1f} % more than those that follow it: the gradient hides the "
    "way.",
    threshold=SQUARE_GAP,
)
# Nor must random points. Carlini et al. (brute force: 10,000 random draws).
_NOISE: Final = _Sign(
    "random draws beat white-box",
    CARLINI,
    good="Random points in the ball break nothing more.",
    bad="Random points in the ball break {percent:.1f} % more than attacks that search: the search is blind.",
    threshold=SQUARE_GAP,
)
# Nor must adversarial examples for another model. Carlini et al.; Pintor et al., indicator I5.
_TRANSFER: Final = _Sign(
    "transfer beats white-box",
    CARLINI,
    good="Adversarial examples of another model break nothing more.",
    bad="Adversarial examples of another model break {percent:.1f} % more than attacks on this one: its own gradient "
    "hides the way.",
    threshold=SQUARE_GAP,
)
# Twice the steps and other random starts must not change the result. Carlini et al. (verify that attacks
# have converged); the threshold is ours.
_MORE_EFFORT: Final = _Sign(
    "more steps and restarts",
    CARLINI,
    good="Twice the steps and other starts find nothing that matters.",
    bad="Twice the steps and other starts break {percent:.1f} % more: the attack had not finished.",
)
# An iterative attack must be at least as strong as a single step. Carlini et al.; Athalye et al. The test is
# McNemar's, the threshold ours.
_SINGLE_STEP: Final = _Sign(
    "single step beats iterative",
    CARLINI,
    good="Attacks of many steps are stronger than one of a single step.",
    bad="A single step breaks {percent:.1f} % more than many steps: the loss surface leads attacks astray.",
)
# Accuracy must fall as the radius grows. Carlini et al. The test is McNemar's, between neighbours.
_RADIUS: Final = _Sign(
    "falls with the radius",
    CARLINI,
    good="Accuracy falls as the attacker may change more.",
    bad="Accuracy rises by {percent:.1f} % where the attacker may change more: the attack, not the model, is at its "
    "limit.",
)
# An attack that may turn an image to plain grey must break all of them. Carlini et al. (unbounded attacks
# reach 0 %); Pintor et al., indicator I6. The threshold is ours.
_UNBOUNDED: Final = _Sign(
    "unbounded attack",
    CARLINI,
    good="An attack that may change almost anything breaks every image.",
    bad="{percent:.1f} % of the images survive an attack that may change almost anything (radius {radius:.3g}): the "
    "attack does not work.",
    threshold=0.02,
)
# The loss must have come to rest. Pintor et al., indicator I4: the best loss so far, scaled to [0, 1], moves by no more
# than 0.05 over the last 10 steps (the authors' code). How many images' losses may move further is ours.
_MOVING: Final = _Sign(
    "loss still moving",
    PINTOR,
    good="The attack's loss has come to rest.",
    bad="The loss of {percent:.1f} % of the images left standing still rises in the attack's last steps: it stopped "
    "too early.",
    threshold=0.25,
)
# Attacks must find adversarial examples that are known to be there. Zimmermann et al.: at least 95 %;
# failed if that lies above the exact 95 % interval.
_PLANTED: Final = _Sign(
    "planted adversarial examples",
    "Zimmermann et al. 2022, Increasing confidence in adversarial robustness evaluations",
    good="{who} find {broken} of {planted} adversarial examples that were planted.",
    bad="{who} find {broken} of {planted} adversarial examples that were planted: they overlook what is there.",
    threshold=0.95,
    at_least=True,
)

# The following concern the evaluation behind a claim; their thresholds are ours.

# The attack must not be stronger on the other view of the logits, raw z or normalised f. Measured on I-SCE.
_OTHER_VIEW: Final = _Sign(
    "the other logits",
    "this project, measured on the loss of Song et al. 2022",
    good="Attacks on the other scale of the logits are not stronger.",
    bad="It looked at {seen} logits alone; an attack on {unseen} ones breaks {percent:.1f} % more. Bounded logits "
    "blunt attacks that trust the loss's scale.",
)
# An attack on margins must not be stronger. Croce and Hein (cross entropy vanishes on confident models).
_MARGINS: Final = _Sign(
    "a loss of margins",
    "Croce and Hein 2020: cross entropy blinds attacks on confident models",
    good="An attack that climbs margins between classes is not stronger.",
    bad="An attack that climbs margins between classes breaks {percent:.1f} % more than those behind this number.",
)
# Nor must an attack on cross entropy that sets its own step: that is what shows DeepFool's misjudgement. Carlini et al.
# (focus on the strongest attacks possible).
_ADAPTIVE: Final = _Sign(
    "an adaptive step",
    CARLINI,
    good="An attack that sets its own step is not stronger.",
    bad="An attack that sets its own step breaks {percent:.1f} % more than the attacks behind this number.{why}",
)
# Nor must a single step. Carlini et al.; Athalye et al.
_CLAIM_SINGLE_STEP: Final = _Sign(
    "a single step",
    CARLINI,
    good="It is at least as strong as an attack of a single step.",
    bad="An attack of a single step breaks {percent:.1f} % more than the attacks behind this number.",
)
# An attack must return the adversarial examples that it met on its way. Pintor et al., indicator I3. Our own attacks
# judge every point that they look at.
_SILENT: Final = _Sign(
    "silent success",
    PINTOR,
    good="Its attacks return what they find on the way.",
    bad="On {percent:.1f} % of the images its attacks met a wrong answer on the way and went past it.",
)


def general_checks(evidence: Evidence) -> list[Check]:
    """Every check of the model and of the audit's own evaluation; they concern every claim."""
    return [
        _RANDOMISED.check(evidence.spread),
        _PROBABILITIES.check(float(evidence.probabilities)),
        *_of_masking(evidence),
        _beyond_white_box(evidence, _TRANSFER, "transfer"),
        _more_effort(evidence),
        _stronger(evidence, _SINGLE_STEP, evidence.standing(*ITERATIVE), "single"),
        _falls_with_radius(evidence),
        _unbounded(evidence),
        _moving(evidence),
        _planted(evidence.planted, "The audit's attacks"),
    ]


def masking_signs(evidence: Evidence) -> list[Check]:
    """The signs of masked gradients that failed; to be asked before the attacks that follow such signs."""
    return [check for check in _of_masking(evidence) if check.state == "failed"]


def _of_masking(evidence: Evidence) -> list[Check]:
    return [
        _NO_GRADIENT.check(_share(evidence.no_gradient, evidence.clean)),
        _MISLEADING.check(_share(evidence.misled, evidence.clean)),
        _beyond_white_box(evidence, _SQUARE, "square"),
        _beyond_white_box(evidence, _NOISE, "noise"),
    ]


def upper_bound(evidence: Evidence, checks: Sequence[Check]) -> bool:
    """Whether a failed general check means that an accuracy that survives the audit is no more than an upper bound.

    A model that draws at random is attacked on the mean of its draws. Masked gradients have been overcome where they
    come from rounding alone, and many queries without gradients then find nothing beyond the attacks through it.
    """
    failed = {check.name for check in checks if check.state == "failed" and check.claim is None} - {_RANDOMISED.name}
    if evidence.straight_through and not evidence.runs["patient square"].error:
        beyond = evidence.runs["patient square"].broken.mean() > SQUARE_GAP
        return beyond or _PROBABILITIES.name in failed
    return bool(failed)


def claim_checks(evidence: Evidence, claim: Claim) -> list[Check]:
    """Every check of the evaluation behind a claim."""
    linear = all("deepfool" in attack.label.lower() for attack in claim.attacks)
    why = " They look for the nearest boundary by a linear guess, which bounded logits mislead." if linear else ""
    return [
        _other_view(evidence, claim),
        _strongest(evidence, _MARGINS, claim, ["margin"]),
        _strongest(evidence, _ADAPTIVE, claim, ITERATIVE, why=why),
        _strongest(evidence, _CLAIM_SINGLE_STEP, claim, ["single"]),
        _silent_success(evidence, claim),
        _planted(evidence.claims_planted[claim.name], "Its attacks", claim),
    ]


def _share(images: Images, of: Images) -> float:
    return float((images & of).sum() / max(int(of.sum()), 1))


def _gap(evidence: Evidence, key: str) -> Gap:
    """What a run broke beyond all white-box attacks, over all images."""
    left = evidence.standing(*WHITE_BOX)
    return Gap.between(left, left & ~evidence.runs[key].broken)


def _beyond_white_box(evidence: Evidence, sign: _Sign, key: str) -> Check:
    """Whether a run breaks more than the threshold's share of all images beyond the white-box attacks."""
    run = evidence.runs.get(key)
    if run is None:  # only the transfer may be left out
        return sign.not_done("no second model was given to borrow adversarial examples from")
    return sign.not_done(run.error) if run.error else sign.check(_gap(evidence, key).share)


def _more_effort(evidence: Evidence) -> Check:
    check = _beyond_white_box(evidence, _MORE_EFFORT, "longer")
    if check.value is None or check.state == "passed" or _gap(evidence, "longer").counts:
        return check
    chance = "Twice the steps and other starts find {percent:.1f} %, no more than chance."
    return replace(_MORE_EFFORT, good=chance).check(check.value, passed=True)


def _stronger(
    evidence: Evidence, sign: _Sign, kept: Images, key: str, claim: Claim | None = None, **words: object
) -> Check:
    """Whether a run on all images is stronger than an outcome, by more than chance and tolerance."""
    run = evidence.runs[key]
    if run.error:
        return sign.not_done(run.error, claim)
    gap = Gap.between(kept, (evidence.clean & ~run.broken)[: len(kept)])
    return sign.check(max(gap.share, 0.0), claim, passed=not gap.counts, **words)


def _strongest(evidence: Evidence, sign: _Sign, claim: Claim, keys: Sequence[str], **words: object) -> Check:
    """Against the run that beats the claim by most."""
    checks = [_stronger(evidence, sign, claim.kept, key, claim, **words) for key in keys]
    return max(checks, key=lambda check: (check.state == "failed", -1.0 if check.value is None else check.value))


def _falls_with_radius(evidence: Evidence) -> Check:
    if len(evidence.curve) < 2:
        return _RADIUS.not_done("the attack could not be run")
    rises = [(float(b.mean() - a.mean()), mcnemar(a, b)) for (_, a), (_, b) in pairwise(evidence.curve)]
    real = any(rise > TOLERANCE and p < SIGNIFICANCE / len(rises) for rise, p in rises)
    steepest = max(rise for rise, _ in rises)
    return _RADIUS.check(max(steepest, 0.0), passed=not real)


def _unbounded(evidence: Evidence) -> Check:
    if not evidence.curve:
        return _UNBOUNDED.not_done("the attack could not be run")
    radius, kept = evidence.curve[-1]
    return _UNBOUNDED.check(float(kept.mean()), radius=radius)


def _moving(evidence: Evidence) -> Check:
    if not len(evidence.moved):
        return replace(_MOVING, good="The attack leaves nothing standing.").check(0.0)
    return _MOVING.check(float(np.mean(evidence.moved > STILL_MOVING)))


def _planted(planted: Planted | str, who: str, claim: Claim | None = None) -> Check:
    if isinstance(planted, str):
        return _PLANTED.not_done(planted, claim)
    _, most = exact_interval(planted.broken, planted.planted)
    return _PLANTED.check(
        planted.broken / planted.planted, claim, passed=most >= _PLANTED.threshold, who=who, **vars(planted)
    )


def _other_view(evidence: Evidence, claim: Claim) -> Check:
    unseen = [view for view in ("raw", "normalized") if view not in claim.views]
    if not unseen:
        return replace(_OTHER_VIEW, good="It saw the logits raw and normalised.").check(0.0, claim)
    keys = [f"ce {view}" for view in unseen]
    return _strongest(evidence, _OTHER_VIEW, claim, keys, seen=" and ".join(claim.views), unseen=" and ".join(unseen))


def _silent_success(evidence: Evidence, claim: Claim) -> Check:
    if not claim.may_miss:
        return replace(_SILENT, good="Its attacks keep what they find on the way.").check(0.0, claim)
    silent = evidence.silent[claim.name]
    if not len(silent):
        return _SILENT.not_done("its attacks could not be run again", claim)
    gap = Gap.between(silent, np.zeros_like(silent))
    return _SILENT.check(gap.share, claim, passed=not gap.counts)
