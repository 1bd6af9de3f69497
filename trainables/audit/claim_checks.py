"""The published checks of the evaluation behind one claim.

What a claim's parts say of each other never counts against it: a gap between two losses does not fail the worst case
over both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from trainables.audit.comparisons import CARLINI, LOSSES, OURS, PINTOR, make_check, not_done, planted_check, weaker
from trainables.audit.evidence import ITERATIVE, Evidence
from trainables.audit.profiles import TOLERANCE
from trainables.audit.verdict import Check, Claim, Gap


def claim_checks(evidence: Evidence, claim: Claim) -> list[Check]:
    """Every check of the evaluation behind a claim."""
    return [check(evidence, claim) for check in _OF_CLAIMS]


def other_view(evidence: Evidence, claim: Claim) -> Check:
    """The attack must not be stronger on the other view of the logits, raw z or normalised f.

    Source:
        Spec of this project, measured on I-SCE; the threshold is ours. Concerns claims that saw one view alone.
    """
    unseen = [view for view in ("raw", "normalized") if view not in claim.views]
    if not unseen:
        return make_check(
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
            if claim.attacks and all("deepfool" in attack.label.lower() for attack in claim.attacks)
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
    if not any(attack.judged_at_end for attack in claim.attacks):
        return make_check(
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
        return not_done("silent success", PINTOR, "its attacks could not be run again", TOLERANCE, claim)
    gap = Gap.between(silent, np.zeros_like(silent))
    return make_check(
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
    return planted_check(claim, found, "Its attacks")


_OF_CLAIMS: Final[tuple[Callable[[Evidence, Claim], Check], ...]] = (
    other_view,
    margin_loss,
    cross_entropy_loss,
    stronger_than_single_step,
    silent_success,
    claim_planted,
)


def _strongest(
    evidence: Evidence, claim: Claim, name: str, source: str, keys: list[str], *, good: str, bad: str
) -> Check:
    """Against the run that beats the claim by most."""
    checks = [weaker(evidence, claim, name, source, claim.kept, key, good=good, bad=bad) for key in keys]
    done = [check for check in checks if check.value is not None]
    return max(done, key=lambda check: (check.state == "failed", check.value or 0.0)) if done else checks[0]
