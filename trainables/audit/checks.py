"""The published checks, one function each: from evidence to a value, a threshold, and a sentence for people.

Those of the first group concern the model and the audit's own evaluation, and so every claim; those of the second
concern the evaluation behind one claim. What a claim's parts say of each other is never held against it: a worst case
over two losses is not failed by a gap between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from trainables.audit.evidence import Evidence, Run
from trainables.audit.paired import Images, at_most, mcnemar
from trainables.audit.planted import Planted
from trainables.audit.profiles import (
    LARGE_RADIUS_LEFT,
    MISLED_SHARE,
    MOVING_SHARE,
    PLANTED_FOUND,
    RANDOMNESS,
    SIGNIFICANCE,
    SQUARE_GAP,
    STILL_MOVING,
    TOLERANCE,
)
from trainables.audit.verdict import Check, Claim, Gap
from trainables.settings import TORCHATTACKS_PREFIX

CROCE: Final = "Croce and Hein 2020, AutoAttack's own flags"
LOSSES: Final = "Croce and Hein 2020, section 4: cross entropy blinds attacks on confident models"
CARLINI: Final = "Carlini et al. 2019, On evaluating adversarial robustness"
PINTOR: Final = "Pintor et al. 2022, Indicators of attack failure"
ZIMMERMANN: Final = "Zimmermann et al. 2022, Increasing confidence in adversarial robustness evaluations"
OURS: Final = "this project, measured on the loss of Song et al. 2022"

# The white-box attacks of an audit, by key; `audit` runs them.
ITERATIVE: Final = ("ce raw", "ce normalized")
WHITE_BOX: Final = (*ITERATIVE, "margin", "fab", "deepfool raw", "deepfool normalized")


def general_checks(evidence: Evidence) -> list[Check]:
    """Every check of the model and of the audit's own evaluation."""
    return [check(evidence) for check in _GENERAL]


def claim_checks(evidence: Evidence, claim: Claim) -> list[Check]:
    """Every check of the evaluation behind a claim."""
    return [check(evidence, claim) for check in _OF_CLAIMS]


def randomised(evidence: Evidence) -> Check:
    """Two evaluations of one image must agree.

    Source:
        AutoAttack's ``check_randomized``: five passes, logits scaled to unit norm, no distance above 1e-4.
    """
    return _check(
        "randomised output",
        CROCE,
        evidence.spread,
        RANDOMNESS,
        good="The model gives the same answer each time.",
        bad="The model draws at random: one evaluation of an image says little, and an attack that follows one draw's "
        "gradient is led astray. Only attacks on the mean of many draws count.",
    )


def probabilities(evidence: Evidence) -> Check:
    """The model must return logits.

    Source:
        AutoAttack's ``check_range_output``: outputs in [0, 1] that add up to 1, to within 1e-5.
    """
    return _check(
        "probabilities, not logits",
        CROCE,
        float(evidence.probabilities),
        0.0,
        good="The model returns logits.",
        bad="The model returns probabilities: a second softmax flattens them, and attacks lose their gradient.",
    )


def zero_gradients(evidence: Evidence) -> Check:
    """There must be a gradient to follow.

    Source:
        AutoAttack's ``check_zero_gradients`` (any image); Pintor et al. 2022, indicator I1. At the clean images, of log
        odds and of the margin loss, which no confidence of the model makes vanish in rounding.
    """
    return _check(
        "zero gradients",
        CROCE,
        _share(evidence.no_gradient, evidence.clean),
        0.0,
        good="Every image has a gradient.",
        bad="{percent:.1f} % of the images have no gradient at all: attacks that follow it stand still, which is no "
        "robustness.",
    )


def misleading_gradients(evidence: Evidence) -> Check:
    """A small step along the gradient must raise the loss as the gradient promises.

    Source:
        Athalye et al. 2018, "Obfuscated gradients give a false sense of security" (shattered gradients); Pintor et al.
        2022, indicator I2. In this form and with its threshold ours: half of the promise over a step of 1 % of the
        radius.
    """
    return _check(
        "misleading gradients",
        PINTOR,
        _share(evidence.misled, evidence.clean),
        MISLED_SHARE,
        good="The loss rises as its gradient promises.",
        bad="On {percent:.1f} % of the images the loss does not rise as its gradient promises: attacks that follow it "
        "are led astray.",
    )


def square_beats_white_box(evidence: Evidence) -> Check:
    """An attack that sees no gradient must not break what those that see it leave.

    Source:
        AutoAttack's ``check_square_sr``: 0.2 points; Carlini et al. 2019, section 3.2 and 5.
    """
    return _beyond(
        evidence,
        "Square beats white-box",
        CROCE,
        "square",
        SQUARE_GAP,
        good="An attack that sees no gradient finds nothing more.",
        bad="An attack that sees no gradient breaks {percent:.1f} % more than those that follow it: the gradient hides "
        "the way.",
    )


def noise_beats_white_box(evidence: Evidence) -> Check:
    """Random points must not break what white-box attacks leave.

    Source:
        Carlini et al. 2019, section 5 (brute force: 10,000 random draws); by AutoAttack's 0.2 points.
    """
    return _beyond(
        evidence,
        "random draws beat white-box",
        CARLINI,
        "noise",
        SQUARE_GAP,
        good="Random points in the ball break nothing more.",
        bad="Random points in the ball break {percent:.1f} % more than attacks that search: the search is blind.",
    )


def transfer_beats_white_box(evidence: Evidence) -> Check:
    """Adversarial examples for another model must not break what white-box attacks leave.

    Source:
        Carlini et al. 2019, section 4.6; Pintor et al. 2022, indicator I5; by AutoAttack's 0.2 points.
    """
    return _beyond(
        evidence,
        "transfer beats white-box",
        CARLINI,
        "transfer",
        SQUARE_GAP,
        good="Adversarial examples of another model break nothing more.",
        bad="Adversarial examples of another model break {percent:.1f} % more than attacks on this one: its own "
        "gradient hides the way.",
        missing="no second model was given to borrow adversarial examples from",
    )


def more_effort(evidence: Evidence) -> Check:
    """Twice the steps and other random starts must not change the result.

    Source:
        Carlini et al. 2019, section 5 (verify that attacks have converged). The threshold is ours.
    """
    check = _beyond(
        evidence,
        "more steps and restarts",
        CARLINI,
        "longer",
        TOLERANCE,
        good="Twice the steps and other starts find nothing that matters.",
        bad="Twice the steps and other starts break {percent:.1f} % more: the attack had not finished.",
    )
    run = evidence.runs["longer"]
    if check.state == "failed" and not _gap(evidence, run).counts:
        return _check(
            check.name,
            CARLINI,
            check.value,
            TOLERANCE,
            good="Twice the steps and other starts find {percent:.1f} %, no more than chance.",
            bad="",
            passed=True,
        )
    return check


def single_step(evidence: Evidence) -> Check:
    """An iterative attack must be at least as strong as a single step.

    Source:
        Carlini et al. 2019, section 5; Athalye et al. 2018. The test is McNemar's, the threshold ours.
    """
    return _weaker(
        evidence,
        None,
        "single step beats iterative",
        CARLINI,
        evidence.standing(*ITERATIVE),
        "single",
        good="Attacks of many steps are stronger than one of a single step.",
        bad="A single step breaks {percent:.1f} % more than many steps: the loss surface leads attacks astray.",
    )


def falls_with_radius(evidence: Evidence) -> Check:
    """Accuracy must fall as the radius grows.

    Source:
        Carlini et al. 2019, section 4.3 and 5. The test is McNemar's, between neighbours.
    """
    if len(evidence.curve) < 2:
        return _not_done("falls with the radius", CARLINI, "the attack could not be run", TOLERANCE)
    rises = [(float(b.mean() - a.mean()), mcnemar(a, b)) for (_, a), (_, b) in pairwise(evidence.curve)]
    rise = max(rise for rise, _ in rises)
    real = any(rise > TOLERANCE and p < SIGNIFICANCE / len(rises) for rise, p in rises)
    return _check(
        "falls with the radius",
        CARLINI,
        max(rise, 0.0),
        TOLERANCE,
        passed=not real,
        good="Accuracy falls as the attacker may change more.",
        bad="Accuracy rises by {percent:.1f} % where the attacker may change more: the attack, not the model, is at "
        "its limit.",
    )


def large_radius(evidence: Evidence) -> Check:
    """An attack that may turn an image to plain grey must break all of them.

    Source:
        Carlini et al. 2019, section 4.3 (unbounded attacks reach 0 %); Pintor et al. 2022, indicator I6. The threshold
        is ours.
    """
    if not evidence.curve:
        return _not_done("unbounded attack", CARLINI, "the attack could not be run", LARGE_RADIUS_LEFT)
    radius, kept = evidence.curve[-1]
    return _check(
        "unbounded attack",
        CARLINI,
        float(kept.mean()),
        LARGE_RADIUS_LEFT,
        good="An attack that may change almost anything breaks every image.",
        bad=f"{{percent:.1f}} % of the images survive an attack that may change almost anything (radius {radius:.3g}): "
        "the attack does not work.",
    )


def converged(evidence: Evidence) -> Check:
    """The loss must have come to rest.

    Source:
        Pintor et al. 2022, indicator I4: the best loss so far, scaled to [0, 1], moves by no more than 0.05 over the
        last 10 steps (the authors' code); of how many images may move further, the threshold is ours.
    """
    moved = evidence.moved
    if not len(moved):
        return _check(
            "loss still moving", PINTOR, 0.0, MOVING_SHARE, good="The attack leaves nothing standing.", bad=""
        )
    return _check(
        "loss still moving",
        PINTOR,
        float(np.mean(moved > STILL_MOVING)),
        MOVING_SHARE,
        good="The attack's loss has come to rest.",
        bad="The loss of {percent:.1f} % of the images left standing still rises in the attack's last steps: it "
        "stopped too early.",
    )


def planted(evidence: Evidence) -> Check:
    """The strongest attack must find adversarial examples that are known to be there.

    Source:
        Zimmermann et al. 2022, sections 4 and 5: at least 95 %; failed if that lies above the exact 95 % interval.
    """
    return _planted(None, evidence.planted, "The audit's attacks")


def other_view(evidence: Evidence, claim: Claim) -> Check:
    """The attack must not be stronger on the other view of the logits, raw z or normalised f.

    Source:
        Spec of this project, measured on I-SCE; the threshold is ours. Concerns claims that saw one view alone.
    """
    unseen = [view for view in ("raw", "normalized") if view not in claim.views]
    if not unseen:
        return _check(
            "the other logits", OURS, 0.0, TOLERANCE, claim=claim, good="It saw the logits raw and normalised.", bad=""
        )
    return _strongest(
        evidence,
        claim,
        "the other logits",
        OURS,
        [f"ce {view}" for view in unseen],
        good="Attacks on the other scale of the logits are not stronger.",
        bad=f"It looked at {' and '.join(claim.views)} logits alone; an attack on {' and '.join(unseen)} ones breaks "
        "{percent:.1f} % more. Bounded logits blunt attacks that trust the loss's scale.",
    )


def margin_loss(evidence: Evidence, claim: Claim) -> Check:
    """An attack on margins must not be stronger.

    Source:
        Croce and Hein 2020, section 4 (cross entropy vanishes on confident models); the threshold is ours.
    """
    return _strongest(
        evidence,
        claim,
        "a loss of margins",
        LOSSES,
        ["margin"],
        good="An attack that climbs margins between classes is not stronger.",
        bad="An attack that climbs margins between classes breaks {percent:.1f} % more than those behind this number.",
    )


def cross_entropy_loss(evidence: Evidence, claim: Claim) -> Check:
    """An adaptive attack on cross entropy must not be stronger: that is what shows DeepFool's misjudgement.

    Source:
        Carlini et al. 2019, section 5; the threshold is ours.
    """
    return _strongest(
        evidence,
        claim,
        "an adaptive step",
        CARLINI,
        list(ITERATIVE),
        good="An attack that sets its own step is not stronger.",
        bad="An attack that sets its own step breaks {percent:.1f} % more than the attacks behind this number."
        + (
            " They look for the nearest boundary by a linear guess, which bounded logits mislead."
            if claim.attacks and all("deepfool" in attack.name.lower() for attack in claim.attacks)
            else ""
        ),
    )


def stronger_than_single_step(evidence: Evidence, claim: Claim) -> Check:
    """The attacks behind a number must be at least as strong as a single step.

    Source:
        Carlini et al. 2019, section 5; Athalye et al. 2018. The threshold is ours.
    """
    return _strongest(
        evidence,
        claim,
        "a single step",
        CARLINI,
        ["single"],
        good="It is at least as strong as an attack of a single step.",
        bad="An attack of a single step breaks {percent:.1f} % more than the attacks behind this number.",
    )


def silent_success(evidence: Evidence, claim: Claim) -> Check:
    """An attack must return the adversarial examples that it met on its way.

    Source:
        Pintor et al. 2022, indicator I3. The threshold is ours. Our own attacks judge every point that they look at.
    """
    if not any(attack.name.startswith(TORCHATTACKS_PREFIX) for attack in claim.attacks):
        return _check(
            "silent success",
            PINTOR,
            0.0,
            TOLERANCE,
            claim=claim,
            good="Its attacks keep what they find on the way.",
            bad="",
        )
    silent = evidence.silent.get(claim.name)
    if silent is None or not len(silent):
        return _not_done("silent success", PINTOR, "its attacks could not be run again", TOLERANCE, claim)
    gap = Gap.between(silent, np.zeros_like(silent))
    return _check(
        "silent success",
        PINTOR,
        gap.share,
        TOLERANCE,
        claim=claim,
        passed=not gap.counts,
        good="Its attacks return what they find on the way.",
        bad="On {percent:.1f} % of the images its attacks met a wrong answer on the way and went past it.",
    )


def claim_planted(evidence: Evidence, claim: Claim) -> Check:
    """The attacks behind a number must find adversarial examples that are known to be there.

    Source:
        Zimmermann et al. 2022, sections 4 and 5: at least 95 %; failed if that lies above the exact 95 % interval.
    """
    found = evidence.claims_planted.get(claim.name, "its attacks were not run again")
    return _planted(claim, found, "Its attacks")


_GENERAL: Final[tuple[Callable[[Evidence], Check], ...]] = (
    randomised,
    probabilities,
    zero_gradients,
    misleading_gradients,
    square_beats_white_box,
    noise_beats_white_box,
    transfer_beats_white_box,
    more_effort,
    single_step,
    falls_with_radius,
    large_radius,
    converged,
    planted,
)
_OF_CLAIMS: Final[tuple[Callable[[Evidence, Claim], Check], ...]] = (
    other_view,
    margin_loss,
    cross_entropy_loss,
    stronger_than_single_step,
    silent_success,
    claim_planted,
)


def _check(
    name: str,
    source: str,
    value: float | None,
    threshold: float,
    *,
    good: str,
    bad: str,
    claim: Claim | None = None,
    passed: bool | None = None,
    at_least: bool = False,
) -> Check:
    """A check that was done; it passes where the value does not exceed the threshold, unless ``passed`` says so."""
    assert value is not None
    assert not math.isnan(value)
    if passed is None:
        passed = value >= threshold if at_least else value <= threshold
    sentence = (good if passed else bad).format(percent=100 * value)
    state = "passed" if passed else "failed"
    return Check(name, source, claim.name if claim else None, value, threshold, at_least, state, sentence)  # type: ignore[arg-type]


def _not_done(
    name: str, source: str, why: str, threshold: float, claim: Claim | None = None, *, at_least: bool = False
) -> Check:
    return Check(name, source, claim.name if claim else None, None, threshold, at_least, "not done", why)


def _share(found: Images, of: Images) -> float:
    return float((found & of).sum() / max(int(of.sum()), 1))


def _gap(evidence: Evidence, run: Run) -> Gap:
    """What a run broke beyond all white-box attacks, over all images."""
    left = evidence.standing(*WHITE_BOX)
    return Gap.between(left, left & ~run.broken)


def _beyond(
    evidence: Evidence,
    name: str,
    source: str,
    key: str,
    threshold: float,
    *,
    good: str,
    bad: str,
    missing: str = "it was not run",
) -> Check:
    """Whether a run breaks more than a threshold's share of all images beyond the white-box attacks."""
    run = evidence.runs.get(key)
    if run is None or run.error:
        return _not_done(name, source, run.error if run else missing, threshold)
    return _check(name, source, _gap(evidence, run).share, threshold, good=good, bad=bad)


def _weaker(
    evidence: Evidence,
    claim: Claim | None,
    name: str,
    source: str,
    kept: Images,
    key: str,
    *,
    good: str,
    bad: str,
) -> Check:
    """Whether a run on all images is stronger than an outcome, by more than chance and tolerance."""
    run = evidence.runs.get(key)
    if run is None or run.error:
        return _not_done(name, source, run.error if run else "it was not run", TOLERANCE, claim)
    other = (evidence.clean & ~run.broken)[: len(kept)]
    gap = Gap.between(kept, other)
    return _check(name, source, max(gap.share, 0.0), TOLERANCE, claim=claim, passed=not gap.counts, good=good, bad=bad)


def _strongest(
    evidence: Evidence, claim: Claim, name: str, source: str, keys: list[str], *, good: str, bad: str
) -> Check:
    """Against the run that beats the claim by most."""
    checks = [_weaker(evidence, claim, name, source, claim.kept, key, good=good, bad=bad) for key in keys]
    done = [check for check in checks if check.value is not None]
    return max(done, key=lambda check: (check.state == "failed", check.value or 0.0)) if done else checks[0]


def _planted(claim: Claim | None, found: Planted | str, who: str) -> Check:
    name = "planted adversarial examples"
    if isinstance(found, str):
        return _not_done(name, ZIMMERMANN, found, PLANTED_FOUND, claim, at_least=True)
    return _check(
        name,
        ZIMMERMANN,
        found.found / found.planted,
        PLANTED_FOUND,
        claim=claim,
        at_least=True,
        passed=at_most(found.found, found.planted) >= PLANTED_FOUND,
        good=f"{who} find {found.found} of {found.planted} adversarial examples that were planted.",
        bad=f"{who} find {found.found} of {found.planted} adversarial examples that were planted: they overlook "
        "what is there.",
    )
