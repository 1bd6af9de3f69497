"""The Pareto front of a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from analysis.records import TrialRecord, in_order
from trainables.metrics import ROBUST, Direction


def is_nondominated(
    points: npt.ArrayLike, directions: Sequence[Direction], violation: npt.ArrayLike | None = None
) -> npt.NDArray[np.bool_]:
    """The mask (n,) of the front: the points that no other point dominates. Equal points are all in it or all out.

    To dominate is to be at least as good in every objective, better in one.

    Args:
        points: Objective values, finite. Shape (n, k); n may be 0.
        directions: The direction of each objective. Length k.
        violation: How far each point misses the constraints, 0 if it meets them. Shape (n,); None without constraints.
            A point with a smaller violation dominates one with a larger violation, whatever their objectives.

    Source:
        Deb, Pratap, Agarwal and Meyarivan 2002, IEEE TEVC 6, section VI-A: constrained domination. There, infeasible
        points of equal violation are equal; here, their objectives decide.
    """
    import moocore

    values = np.asarray(points, dtype=np.float64).reshape(-1, len(directions))
    if not len(values):
        return np.zeros(0, dtype=bool)
    mask = np.ones(len(values), dtype=bool)
    if violation is not None:
        missed = np.asarray(violation, dtype=np.float64)
        mask = missed == missed.min()
    maximise = [d == "maximize" for d in directions]
    mask[mask] = moocore.is_nondominated(values[mask], maximise=maximise, keep_weakly=True)
    return mask


def front_mask(
    points: npt.ArrayLike,
    directions: Sequence[Direction],
    violation: npt.ArrayLike | None,
    audited: npt.ArrayLike,
) -> npt.NDArray[np.bool_]:
    """The mask (n,) of the front where only some points rest on audited numbers.

    An audit lowers numbers, so a claim proves nothing against an audited number: a point that is only claimed pushes no
    audited one off the front. It joins the front as far as its claim puts it there.

    Args:
        points, directions, violation: As for `is_nondominated`.
        audited: Which points rest on audited numbers, bool (n,).
    """
    values, checked = np.asarray(points, dtype=np.float64), np.asarray(audited, dtype=bool)
    missed = np.zeros(len(values)) if violation is None else np.asarray(violation, dtype=np.float64)
    mask = is_nondominated(values, directions, missed)
    mask[checked] = is_nondominated(values[checked], directions, missed[checked])
    return mask


def complete_search_trials(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trials that may be on a front, by number: no baselines, replicates, pruned, failed or running trials."""
    return [record for record in in_order(records) if record.state == "complete" and record.kind == "search"]


def pareto_front(records: Iterable[TrialRecord], objectives: Mapping[str, Direction]) -> list[TrialRecord]:
    """The search's Pareto-optimal trials.

    Returns:
        The non-dominated trials among the search's complete ones that meet the constraints, ties included, by
        `front_mask` if robust accuracy is an objective. Where some trials have been audited, those that are only
        claimed come last. The best in the first objective comes first (then in the second, ..., then by number). If no
        trial meets the constraints, those with the smallest violation count; ``feasible`` of the first trial tells the
        two apart.
    """
    candidates = complete_search_trials(records)
    values = np.array([[record.objectives[name] for name in objectives] for record in candidates])
    directions = list(objectives.values())
    audited = [record.verdict is not None and ROBUST in objectives for record in candidates]
    mask = front_mask(values, directions, [record.violation for record in candidates], audited)
    loss = values.reshape(-1, len(directions)) * [-1.0 if direction == "maximize" else 1.0 for direction in directions]
    front = [
        ((not held, *row), record)
        for row, record, best, held in zip(loss.tolist(), candidates, mask, audited, strict=True)
        if best
    ]
    return [record for _, record in sorted(front, key=lambda pair: pair[0])]
