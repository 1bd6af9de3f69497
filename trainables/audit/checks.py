"""The published checks of the model and of the audit's own evaluation, one function each.

They concern every claim. Each turns evidence into a value, a threshold, and a sentence for people.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from trainables.audit.comparisons import (
    CARLINI,
    CROCE,
    PINTOR,
    beyond,
    gap,
    make_check,
    not_done,
    planted_check,
    share,
    weaker,
)
from trainables.audit.evidence import ITERATIVE, Evidence
from trainables.audit.paired import mcnemar
from trainables.audit.profiles import (
    LARGE_RADIUS_LEFT,
    MISLED_SHARE,
    MOVING_SHARE,
    RANDOMNESS,
    SIGNIFICANCE,
    SQUARE_GAP,
    STILL_MOVING,
    TOLERANCE,
)
from trainables.audit.verdict import Check


def general_checks(evidence: Evidence) -> list[Check]:
    """Every check of the model and of the audit's own evaluation."""
    return [check(evidence) for check in _GENERAL]


def randomised(evidence: Evidence) -> Check:
    """Two evaluations of one image must agree.

    Source:
        AutoAttack's ``check_randomized``: five passes, logits scaled to unit norm, no distance above 1e-4.
    """
    return make_check(
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
    return make_check(
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
    return make_check(
        "zero gradients",
        CROCE,
        share(evidence.no_gradient, evidence.clean),
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
    return make_check(
        "misleading gradients",
        PINTOR,
        share(evidence.misled, evidence.clean),
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
    return beyond(
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
    return beyond(
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
    return beyond(
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
    check = beyond(
        evidence,
        "more steps and restarts",
        CARLINI,
        "longer",
        TOLERANCE,
        good="Twice the steps and other starts find nothing that matters.",
        bad="Twice the steps and other starts break {percent:.1f} % more: the attack had not finished.",
    )
    run = evidence.runs["longer"]
    if check.state == "failed" and not gap(evidence, run).counts:
        return make_check(
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
    return weaker(
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
        return not_done("falls with the radius", CARLINI, "the attack could not be run", TOLERANCE)
    rises = [(float(b.mean() - a.mean()), mcnemar(a, b)) for (_, a), (_, b) in pairwise(evidence.curve)]
    rise = max(rise for rise, _ in rises)
    real = any(rise > TOLERANCE and p < SIGNIFICANCE / len(rises) for rise, p in rises)
    return make_check(
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
        return not_done("unbounded attack", CARLINI, "the attack could not be run", LARGE_RADIUS_LEFT)
    radius, kept = evidence.curve[-1]
    return make_check(
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
        return make_check(
            "loss still moving", PINTOR, 0.0, MOVING_SHARE, good="The attack leaves nothing standing.", bad=""
        )
    return make_check(
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
    return planted_check(None, evidence.planted, "The audit's attacks")


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
