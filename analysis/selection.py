"""Selects settings from a front by the user's conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.records import TrialRecord
from trainables.metrics import CLEAN, Direction

_FEWEST_FOR_A_KNEE = 3


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Conditions on the settings of a front. A setting must meet all that are given.

    Args:
        min_clean: The lowest clean accuracy, in [0, 1].
        probability: The lowest probability that nothing else beats the setting, in [0, 1].
        knee: Keep only the setting that is farthest from the line through the front's ends.
        best: An objective. Keep only the best setting in it, or with ``top`` several, the best one first.
        top: The number of settings to keep: the best ones, or the most probable ones without ``best``.
    """

    min_clean: float | None = None
    probability: float | None = None
    knee: bool = False
    best: str | None = None
    top: int | None = None


def knee(points: npt.ArrayLike) -> int | None:
    """The index of the point of a front that is farthest from the line through its ends, each axis scaled to its range.

    Args:
        points: Larger is better. Shape (n, 2).

    Returns:
        The index; None with fewer than three points, or if an axis has no range.
    """
    values = np.asarray(points, dtype=np.float64)
    if len(values) < _FEWEST_FOR_A_KNEE or values.shape[1] != 2 or not (np.ptp(values, axis=0) > 0).all():
        return None
    scaled = (values - values.min(axis=0)) / np.ptp(values, axis=0)
    # The scaled ends are (1, 0) and (0, 1): the distance from the line through them grows with the sum.
    return int(np.argmax(scaled.sum(axis=1)))


def select(
    front: Sequence[TrialRecord],
    objectives: Mapping[str, Direction],
    probabilities: Mapping[str, float],
    selection: Selection,
) -> list[TrialRecord]:
    """The settings of a front that meet a selection. Confirmed numbers decide if there are any.

    Args:
        front: As from ``front_of``.
        objectives: The direction of each objective.
        probabilities: The probability of each setting, by number; empty without an answer.
        selection: The conditions.

    Raises:
        ValueError: A condition does not apply, or no setting meets it; the message has the nearest value.
    """
    kept = list(front)
    if not kept:
        return kept
    signs = {name: 1.0 if direction == "maximize" else -1.0 for name, direction in objectives.items()}

    def value(record: TrialRecord, name: str) -> float:
        return (record.confirmed or record).objectives[name]

    if selection.best is not None and selection.best not in objectives:
        raise ValueError(f"--max must be an objective ({', '.join(objectives)}), got {selection.best}; choose one")
    if selection.knee:
        at = knee([[signs[name] * value(record, name) for name in objectives] for record in kept])
        if at is None:
            raise ValueError(
                f"--knee must have three or more settings on a front of two objectives, got {len(kept)} on a front of "
                f"{len(objectives)}; remove it"
            )
        kept = [kept[at]]
    if selection.min_clean is not None:
        if CLEAN not in objectives:
            raise ValueError(f"--min-clean must be left out without {CLEAN} as an objective")
        most = max(value(record, CLEAN) for record in kept)
        kept = [record for record in kept if value(record, CLEAN) >= selection.min_clean]
        if not kept:
            raise ValueError(
                f"--min-clean must be at most {most:.4g}, the highest value, got {selection.min_clean:g}; lower it"
            )
    if selection.probability is not None:
        if not probabilities:
            raise ValueError(
                "--probability must be left out until the sweep has ended, because only then are probabilities known"
            )
        most = max(probabilities.get(record.number, 0.0) for record in kept)
        kept = [record for record in kept if probabilities.get(record.number, 0.0) >= selection.probability]
        if not kept:
            raise ValueError(
                f"--probability must be at most {most:.4g}, the highest value, got {selection.probability:g}; lower it"
            )
    best = selection.best
    if best is not None:
        kept.sort(key=lambda record: -signs[best] * value(record, best))
        return kept[: selection.top or 1]
    if selection.top is not None:
        kept = sorted(kept, key=lambda record: -probabilities.get(record.number, 0.0))[: selection.top]
    return kept
