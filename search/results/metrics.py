"""What the training core gives, as typed scores: made once by the worker, and carried by one codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from analysis.records import NO_INTERVAL
from analysis.statistics import Interval, wilson_interval
from trainables import metrics
from trainables.metrics import Direction

if TYPE_CHECKING:  # torch stays out of the driver
    from trainables.training.loop import EpochResult
    from trainables.trial import CandidateResult

Role = Literal["search", "confirmation"]

_AUDIT: Final = "audit"


@dataclass(frozen=True)
class Score:
    """One number of one unit.

    Args:
        value: A share of images in [0, 1], or a cost in its unit.
        seed: Index of the unit's seed.
        role: What the unit was trained for.
        images: The range of validation images, [first, stop), of which it is a share; None of a cost.
        audited: Whether it is what an audit left, and not what the sweep's own attacks claim.
    """

    value: float
    seed: int = 0
    role: Role = "search"
    images: tuple[int, int] | None = None
    audited: bool = False

    @property
    def count(self) -> int | None:
        """The number of images; None of a cost."""
        return None if self.images is None else self.images[1] - self.images[0]

    @property
    def interval(self) -> Interval:
        """The 95 % interval over the images, of this one network (Wilson 1927); NaN on both sides of a cost."""
        return NO_INTERVAL if not self.count else wilson_interval(round(self.value * self.count), self.count)


@dataclass(frozen=True)
class UnitResult:
    """All that a unit gave, as it travels from the worker into the ledger.

    Args:
        seed: Index of its seed.
        seed_value: The seed itself.
        role: What it was trained for.
        scores: By the names of ``trainables.metrics``, by the sweep's own attacks.
        audit: What an audit in the same worker says (``robustness.gate: audit``): ``verdict``, ``profile``, ``images``
            (how many) and ``accuracy``, the robust accuracy that holds on them.
    """

    seed: int
    seed_value: int
    role: Role
    scores: Mapping[str, Score]
    audit: Mapping[str, Any] | None = None

    @property
    def values(self) -> dict[str, float]:
        """The scores' values: what is claimed."""
        return {name: score.value for name, score in self.scores.items()}

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        document: dict[str, Any] = {
            "seed": self.seed,
            "seed_value": self.seed_value,
            "role": self.role,
            "scores": {
                name: {"value": score.value} | ({} if score.images is None else {"images": list(score.images)})
                for name, score in self.scores.items()
            },
        }
        return document if self.audit is None else {**document, _AUDIT: dict(self.audit)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Reads what ``to_json`` wrote."""
        seed, role = document["seed"], document["role"]
        scores = {
            name: Score(score["value"], seed, role, tuple(score["images"]) if "images" in score else None)
            for name, score in document["scores"].items()
        }
        return cls(seed, document["seed_value"], role, scores, document.get(_AUDIT))


def unit_results(result: CandidateResult, seeds: Sequence[int], role: Role = "search") -> list[UnitResult]:
    """The scores of a trained and attacked candidate, one unit per seed.

    Args:
        result: What the training core gave.
        seeds: The indices of the seeds, in its order.
        role: What they were trained for.
    """
    outcomes = result.outcomes
    clean, attacked = (0, outcomes.clean.shape[-1]), (0, outcomes.kept.shape[-1])
    shares = {
        metrics.CLEAN: (outcomes.clean_accuracy(), clean),
        metrics.ROBUST: (outcomes.robust_accuracy(), attacked),
        **{name: (values, attacked) for name, values in outcomes.further_accuracy().items()},
        **{name: (values, attacked) for name, values in outcomes.attack_accuracy().items()},
    }
    costs = {
        metrics.VALIDATION_LOSS: result.validation_losses,
        metrics.TRAIN_SECONDS: result.train_seconds,
        metrics.ATTACK_SECONDS: [result.attack_seconds / len(seeds)] * len(seeds),
    }
    return [
        UnitResult(
            seed,
            outcomes.seeds[r],
            role,
            {name: Score(float(values[r]), seed, role, images) for name, (values, images) in shares.items()}
            | {name: Score(float(values[r]), seed, role) for name, values in costs.items()},
        )
        for r, seed in enumerate(seeds)
    ]


def epoch_metrics(result: EpochResult) -> dict[str, float]:
    """One epoch as flat numbers: means over the seeds, and ``NAME[r]`` for each where there are several."""
    values: dict[str, float] = {"epoch": result.epoch, "seconds": result.seconds}
    for name in ("train_loss", "validation_loss", "validation_accuracy", "robust_estimate"):
        each = getattr(result, name)
        if not each:
            continue
        values[name] = sum(each) / len(each)
        if len(each) > 1:
            values |= {metrics.of_seed(name, r): value for r, value in enumerate(each)}
    return values


def rung_values(epoch: Mapping[str, float]) -> dict[str, float] | None:
    """What an epoch's metrics say of possible objectives, for a comparison at a rung.

    Returns:
        One estimate, ``robust_accuracy``, stands for every accuracy under attack. None if the epoch is no rung.
    """
    if "robust_estimate" not in epoch:
        return None
    return {
        metrics.CLEAN: epoch["validation_accuracy"],
        metrics.ROBUST: epoch["robust_estimate"],
        metrics.VALIDATION_LOSS: epoch["validation_loss"],
        metrics.TRAIN_SECONDS: epoch["seconds"],
    }


def rung_objectives(objectives: Mapping[str, Direction]) -> dict[str, Direction]:
    """Which of ``rung_values`` are compared at the rungs of a search for ``objectives``, each with its direction."""
    compared: dict[str, Direction] = {}
    for name, direction in objectives.items():
        if metrics.is_under_attack(name):
            compared[metrics.ROBUST] = direction
        elif name != metrics.ATTACK_SECONDS:  # unknown at a rung
            compared[name] = direction
    return compared
