"""The results of a unit as scores: made once by the worker, and carried into the ledger by one codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import TypeAdapter

from trainables import metrics
from trainables.metrics import Direction

if TYPE_CHECKING:  # torch stays out of the driver
    from trainables.training.loop import EpochResult
    from trainables.trial import CandidateResult

Role = Literal["search", "confirmation"]


@dataclass(frozen=True)
class Score:
    """One number of one unit: a share of the validation images [first, stop), or a cost in its unit, without images."""

    value: float
    images: tuple[int, int] | None = None

    @property
    def count(self) -> int | None:
        """The number of images; None for a cost."""
        return None if self.images is None else self.images[1] - self.images[0]


@dataclass(frozen=True)
class UnitResult:
    """All results of a unit, as they travel from the worker into the ledger.

    Args:
        seed: Index of its seed; ``seed_value`` is the seed itself.
        role: What it was trained for.
        scores: By the names of ``trainables.metrics``, as measured by the sweep's own attacks.
        audit: ``audits.summary_of`` an audit in the same worker (``robustness.gate: audit``).
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
        """As it is stored: the fields that are not None."""
        document: dict[str, Any] = _CODEC.dump_python(self, mode="json", exclude_none=True)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> UnitResult:
        """Reads what ``to_json`` wrote."""
        return _CODEC.validate_python(document)


_CODEC: Final = TypeAdapter(UnitResult)


def unit_results(result: CandidateResult, seeds: Sequence[int], role: Role = "search") -> list[UnitResult]:
    """The scores of a trained and attacked candidate: one unit for each index in ``seeds``, in the result's order."""
    outcomes = result.outcomes
    clean, attacked = (0, outcomes.clean.shape[-1]), (0, outcomes.kept.shape[-1])
    under_attack = {
        metrics.ROBUST: outcomes.robust_accuracy(),
        **outcomes.further_accuracy(),
        **outcomes.attack_accuracy(),
    }
    costs = {
        metrics.VALIDATION_LOSS: result.validation_losses,
        metrics.TRAIN_SECONDS: result.train_seconds,
        metrics.ATTACK_SECONDS: [result.attack_seconds / len(seeds)] * len(seeds),
        metrics.TRAIN_PASSES: [result.train_passes] * len(seeds),
        metrics.ATTACK_PASSES: outcomes.passes.sum(axis=(1, 2, 3, 4)),
    }
    best = result.best
    of_best = [] if best is None else list(zip(best.clean, best.robust, best.epochs, strict=True))
    return [
        UnitResult(
            seed,
            outcomes.seeds[r],
            role,
            {metrics.CLEAN: Score(float(outcomes.clean_accuracy()[r]), clean)}
            | {name: Score(float(values[r]), attacked) for name, values in under_attack.items()}
            | {name: Score(float(values[r])) for name, values in costs.items()}
            | (_best_scores(*of_best[r], clean, attacked) if of_best else {}),
        )
        for r, seed in enumerate(seeds)
    ]


def _best_scores(
    clean: float, robust: float, epoch: int, images: tuple[int, int], attacked: tuple[int, int]
) -> dict[str, Score]:
    return {
        metrics.BEST_CLEAN: Score(clean, images),
        metrics.BEST_ROBUST: Score(robust, attacked),
        metrics.BEST_EPOCH: Score(float(epoch)),
    }


def epoch_metrics(result: EpochResult) -> dict[str, float]:
    """One epoch as flat numbers: means over the seeds, and ``NAME[r]`` for each where there are several."""
    values: dict[str, float] = {"epoch": result.epoch, "seconds": result.seconds}
    for name in ("train_loss", "validation_loss", "validation_accuracy", "robust_estimate", "selection_accuracy"):
        each = getattr(result, name)
        if each:
            values[name] = sum(each) / len(each)
        if len(each) > 1:
            values |= {metrics.of_seed(name, r): value for r, value in enumerate(each)}
    return values


def rung_values(epoch: Mapping[str, float]) -> dict[str, float] | None:
    """The values of possible objectives after an epoch, for a comparison at a rung; None if the epoch is no rung.

    One estimate, ``robust_accuracy``, stands for every accuracy under attack.
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
    return {
        metrics.ROBUST if metrics.is_under_attack(name) else name: direction
        for name, direction in objectives.items()
        if name != metrics.ATTACK_SECONDS  # unknown at a rung
    }
