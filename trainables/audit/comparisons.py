"""From evidence to a check: a value, a threshold and a sentence, built the same way for every check."""

from __future__ import annotations

import math
from typing import Final

from trainables.audit.evidence import WHITE_BOX, Evidence, Run
from trainables.audit.paired import Images, at_most
from trainables.audit.planted import Planted
from trainables.audit.profiles import PLANTED_FOUND, TOLERANCE
from trainables.audit.verdict import Check, Claim, Gap

CROCE: Final = "Croce and Hein 2020, AutoAttack's own flags"
LOSSES: Final = "Croce and Hein 2020, section 4: cross entropy blinds attacks on confident models"
CARLINI: Final = "Carlini et al. 2019, On evaluating adversarial robustness"
PINTOR: Final = "Pintor et al. 2022, Indicators of attack failure"
ZIMMERMANN: Final = "Zimmermann et al. 2022, Increasing confidence in adversarial robustness evaluations"
OURS: Final = "this project, measured on the loss of Song et al. 2022"


def make_check(
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


def not_done(
    name: str, source: str, why: str, threshold: float, claim: Claim | None = None, *, at_least: bool = False
) -> Check:
    return Check(name, source, claim.name if claim else None, None, threshold, at_least, "not done", why)


def share(found: Images, of: Images) -> float:
    return float((found & of).sum() / max(int(of.sum()), 1))


def gap(evidence: Evidence, run: Run) -> Gap:
    """What a run broke beyond all white-box attacks, over all images."""
    left = evidence.standing(*WHITE_BOX)
    return Gap.between(left, left & ~run.broken)


def beyond(
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
        return not_done(name, source, run.error if run else missing, threshold)
    return make_check(name, source, gap(evidence, run).share, threshold, good=good, bad=bad)


def weaker(
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
        return not_done(name, source, run.error if run else "it was not run", TOLERANCE, claim)
    other = (evidence.clean & ~run.broken)[: len(kept)]
    gap = Gap.between(kept, other)
    return make_check(
        name, source, max(gap.share, 0.0), TOLERANCE, claim=claim, passed=not gap.counts, good=good, bad=bad
    )


def planted_check(claim: Claim | None, found: Planted | str, who: str) -> Check:
    name = "planted adversarial examples"
    if isinstance(found, str):
        return not_done(name, ZIMMERMANN, found, PLANTED_FOUND, claim, at_least=True)
    return make_check(
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
