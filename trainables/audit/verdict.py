"""What an audit says: a verdict on each claim, the checks behind it, and the verified accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from trainables.attacks import Attack
from trainables.settings import View

# How far a number may lie above a stronger evaluation's. A gap counts if the lower end of its exact 95 % interval is
# larger, and if it is more than chance between pairs (McNemar, 5 %). The tolerance is ours: every further attack breaks
# an image or two, and without a tolerance enough images would condemn every number.
TOLERANCE: Final = 0.01
SIGNIFICANCE: Final = 0.05

Images = NDArray[np.bool_]
Word = Literal["sound", "suspicious", "masked"]
State = Literal["passed", "failed", "not done"]

# The worst first.
WORDS: Final[Mapping[Word, str]] = {
    "masked": "does not hold: a stronger evaluation finds less",
    "suspicious": "cannot be relied on: a check fails, or the strongest evaluation could not be completed",
    "sound": "holds: the strongest evaluation does not lower it, and no check fails",
}


def exact_interval(successes: int, n: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a share of ``n``, in [0, 1].

    Source:
        Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    interval = binomtest(successes, n).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def mcnemar(first: Images, second: Images) -> float:
    """Two-sided exact p-value of the discordant pairs of two outcomes on the same images, bool (n,) each.

    Source:
        McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages", with
        the binomial distribution in place of its chi-squared approximation.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


@dataclass(frozen=True, eq=False)
class Claim:
    """A number and the evaluation behind it: the per-image worst case over attacks and views, at the audit's radius."""

    name: str  # e.g. robust_accuracy
    attacks: tuple[Attack, ...]
    views: tuple[View, ...]  # the logits that the attacks saw
    kept: Images  # whether each image's label survived, bool (m,), for the first m of the audit's images

    @property
    def accuracy(self) -> float:
        """The claimed accuracy, in [0, 1]."""
        return float(self.kept.mean())

    @property
    def may_miss(self) -> bool:
        """Whether its attacks may pass over adversarial examples that they meet."""
        return any(attack.judged_at_end for attack in self.attacks)

    @property
    def evaluation(self) -> str:
        """A description of the evaluation for people."""
        return f"{', '.join(attack.label for attack in self.attacks)} on {' and '.join(self.views)} logits"


@dataclass(frozen=True)
class Gap:
    """How far an outcome lies above a stronger one on the same images."""

    images: int  # that both were measured on
    lost: int  # images that the first keeps and the second loses
    gained: int  # images that the second keeps and the first loses
    low: float  # the lower end of the exact 95 % interval of the share lost, in [0, 1]
    p_value: float  # of the exact McNemar test

    @classmethod
    def between(cls, first: Images, second: Images) -> Gap:
        """The gap between two outcomes, bool (n,) each."""
        lost, gained = int((first & ~second).sum()), int((second & ~first).sum())
        low, _ = exact_interval(lost, len(first))
        return cls(len(first), lost, gained, low, mcnemar(first, second))

    @property
    def share(self) -> float:
        """How far the first lies above the second, in [-1, 1]."""
        return (self.lost - self.gained) / self.images

    @property
    def counts(self) -> bool:
        """Whether the gap is more than chance and more than the tolerance."""
        return self.low > TOLERANCE and self.p_value < SIGNIFICANCE and self.share > TOLERANCE


@dataclass(frozen=True)
class Check:
    """One published sign that an evaluation is not to be trusted.

    It concerns the evaluation behind one claim, or the model and the audit's own evaluation, and so every claim.
    """

    name: str  # unique together with ``claim``
    source: str  # who published it
    claim: str | None  # the name of the claim that it concerns; None for all
    value: float | None  # None if it could not be measured
    threshold: float  # the largest value that passes, or the smallest with ``at_least``
    at_least: bool  # whether large values are good
    state: State
    sentence: str  # what it means, for people who have not read the source; or why it was not done

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one claim."""

    claim: Claim
    word: Word
    gap: Gap  # between the claim and the verified outcome
    sentence: str  # why, for people


@dataclass(frozen=True, eq=False)
class Audit:
    """The outcome of an audit on n images."""

    clean: Images  # whether the clean image is classified correctly, bool (n,)
    verified: Images  # whether the label survives everything that was run, the claims' evaluations included, bool (n,)
    # Distance from the clean image to the nearest misclassified one that the audit's own attacks found, (n,), in pixel
    # units; 0 if the clean image is misclassified, infinite if none was found.
    distance: NDArray[np.float32]
    verdicts: tuple[Verdict, ...]  # one per claim
    checks: tuple[Check, ...]  # those that concern every claim first
    runs: tuple[dict[str, Any], ...]  # name, attack, view, images attacked and broken, error
    curve: tuple[tuple[float, Images], ...]  # radii, ascending; whether each of the first p images survives, bool (p,)
    randomised: bool  # whether the model draws at random
    upper_bound: bool  # whether the true robust accuracy may be far below ``verified``
    seconds: float  # wall time


def worst(words: Iterable[Word]) -> Word:
    """The worst of several verdicts, at least one."""
    given = set(words)
    return next(word for word in WORDS if word in given)


def judge(claim: Claim, verified: Images, checks: Sequence[Check], errors: Sequence[str]) -> Verdict:
    """The verdict on one claim, from what survives all that was run, bool (n,), and from the checks that concern it.

    ``errors`` say why parts of the strongest evaluation could not be completed.
    """
    gap = Gap.between(claim.kept, claim.kept & verified[: len(claim.kept)])
    if gap.counts:
        sentence = (
            f"{gap.lost} of the {gap.images} images that it counts on fall to a stronger evaluation: "
            f"{100 * claim.accuracy:.1f} % is claimed, {100 * (claim.accuracy - gap.share):.1f} % holds"
        )
        return Verdict(claim, "masked", gap, sentence)
    if errors:
        return Verdict(claim, "suspicious", gap, f"the strongest evaluation could not be completed: {errors[0]}")
    failed = [check.name for check in checks if check.state == "failed" and check.claim in (None, claim.name)]
    if failed:
        return Verdict(claim, "suspicious", gap, f"fails: {', '.join(failed)}")
    lowered = "does not lower it"
    if gap.lost:
        lowered = f"lowers it by {100 * gap.share:.1f} points, no more than chance and tolerance allow"
    return Verdict(claim, "sound", gap, f"the strongest evaluation {lowered}, and no check fails")
