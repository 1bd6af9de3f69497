"""What an audit says: a verdict on each claim, the checks behind it, and the verified accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from trainables.attacks import Attack
from trainables.audit.paired import Images, at_least, mcnemar
from trainables.audit.profiles import SIGNIFICANCE, TOLERANCE
from trainables.settings import Norm, View

Word = Literal["sound", "suspicious", "masked"]
State = Literal["passed", "failed", "not done"]

# The worst first.
WORDS: Final[Mapping[Word, str]] = {
    "masked": "does not hold: a stronger evaluation finds less",
    "suspicious": "cannot be relied on: a check fails, or the strongest evaluation could not be completed",
    "sound": "holds: the strongest evaluation does not lower it, and no check fails",
}


@dataclass(frozen=True, eq=False)
class Claim:
    """A number and the evaluation behind it, at the audit's radius.

    Args:
        name: The number's name, e.g. ``robust_accuracy``.
        attacks: The attacks that were run; the number is the per-image worst case over them and the views. Empty if
            unknown.
        views: The logits that the attacks saw.
        kept: Whether each image's label survived, bool (m,), for the first m of the audit's images.
    """

    name: str
    attacks: tuple[Attack, ...]
    views: tuple[View, ...]
    kept: Images

    @property
    def accuracy(self) -> float:
        """The claimed accuracy, in [0, 1]."""
        return float(self.kept.mean())

    @property
    def evaluation(self) -> str:
        """A description of the evaluation for people."""
        attacks = ", ".join(attack.label for attack in self.attacks) or "unknown attacks"
        return f"{attacks} on {' and '.join(self.views) or 'unknown'} logits"


@dataclass(frozen=True)
class Gap:
    """How far an outcome lies above a stronger one on the same images.

    Args:
        images: Images that both were measured on.
        lost: Images that the first keeps and the second loses.
        gained: Images that the second keeps and the first loses.
        low: Lower end of the exact 95 % interval of the share lost, in [0, 1].
        p_value: The two-sided p-value of the exact McNemar test.
    """

    images: int
    lost: int
    gained: int
    low: float
    p_value: float

    @classmethod
    def between(cls, first: Images, second: Images) -> Gap:
        """The gap between two outcomes, bool (n,) each."""
        lost = int((first & ~second).sum())
        return cls(len(first), lost, int((second & ~first).sum()), at_least(lost, len(first)), mcnemar(first, second))

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

    Args:
        name: Short, unique together with ``claim``.
        source: Who published it.
        claim: The claim whose evaluation it concerns; None if it concerns the model and the audit's own evaluation,
            and so every claim.
        value: The measured value; None if it could not be measured.
        threshold: The largest value that passes, or the smallest with ``at_least``.
        at_least: Whether large values are good.
        state: ``passed``, ``failed`` or ``not done``.
        sentence: What it means, for people who have not read the source; or why it was not done.
    """

    name: str
    source: str
    claim: str | None
    value: float | None
    threshold: float
    at_least: bool
    state: State
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdict on one claim.

    Args:
        claim: The claim.
        word: ``sound``, ``suspicious`` or ``masked``.
        gap: The gap between the claim and the verified outcome.
        sentence: Why, for people.
    """

    claim: Claim
    word: Word
    gap: Gap
    sentence: str


@dataclass(frozen=True, eq=False)
class Audit:
    """The outcome of an audit on n images.

    Args:
        profile: How much was done; a verdict holds for its profile.
        radius: The ball's radius, in pixel units.
        norm: The norm of the ball.
        seed: The seed of everything that was drawn.
        clean: Whether the clean image is classified correctly, bool (n,).
        verified: Whether the label survives everything that was run, the claims' evaluations included, bool (n,).
        verdicts: One per claim.
        checks: General checks first.
        runs: The attacks that were run: name, attack, view, images attacked and broken, error.
        curve: Radii, ascending, and whether each of the first p images survives within them, bool (p,).
        randomised: Whether the model draws at random.
        seconds: Wall time.
    """

    profile: str
    radius: float
    norm: Norm
    seed: int
    clean: Images
    verified: Images
    verdicts: tuple[Verdict, ...]
    checks: tuple[Check, ...]
    runs: tuple[dict[str, Any], ...]
    curve: tuple[tuple[float, Images], ...]
    randomised: bool
    seconds: float

    @property
    def word(self) -> Word:
        """The worst verdict."""
        return worst(verdict.word for verdict in self.verdicts)

    @property
    def audited_accuracy(self) -> float:
        """The share of images that survive everything, in [0, 1]."""
        return float(self.verified.mean())


def worst(words: Any) -> Word:
    """The worst of several verdicts."""
    given = set(words)
    return next(word for word in WORDS if word in given)


def judge(claim: Claim, verified: Images, checks: Sequence[Check], errors: Sequence[str]) -> Verdict:
    """The verdict on one claim.

    Args:
        claim: The claim.
        verified: Whether each image survives all that was run, bool (n,).
        checks: All checks; those that concern another claim are ignored.
        errors: Why parts of the strongest evaluation could not be completed.
    """
    gap = Gap.between(claim.kept, claim.kept & verified[: len(claim.kept)])
    failed = [check for check in checks if check.state == "failed" and check.claim in (None, claim.name)]
    if gap.counts:
        holds = 100 * (claim.accuracy - gap.share)
        sentence = (
            f"{gap.lost} of the {gap.images} images that it counts on fall to a stronger evaluation: "
            f"{100 * claim.accuracy:.1f} % is claimed, {holds:.1f} % holds"
        )
        return Verdict(claim, "masked", gap, sentence)
    if errors:
        return Verdict(claim, "suspicious", gap, f"the strongest evaluation could not be completed: {errors[0]}")
    if failed:
        sentence = "fails: " + ", ".join(check.name for check in failed)
        return Verdict(claim, "suspicious", gap, sentence)
    lowered = (
        f"lowers it by {100 * gap.share:.1f} points, no more than chance and tolerance allow"
        if gap.lost
        else ("does not lower it")
    )
    return Verdict(claim, "sound", gap, f"the strongest evaluation {lowered}, and no check fails")
