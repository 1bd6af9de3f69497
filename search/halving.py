"""Asynchronous successive halving for several objectives: whether a trial goes on, decided as each result comes.

Nothing here knows Ray, Optuna or a clock: decisions follow from the results and their order alone, so that a resumed
sweep has the same rungs again once the results in its ledger were reported in their order.

Li et al. 2020: A system for massively parallel hyperparameter tuning. MLSys 2.
Schmucker, Donini, Zafar, Salinas, Archambeau 2021: Multi-objective asynchronous successive halving. arXiv:2106.12639.
Deb, Pratap, Agarwal, Meyarivan 2002: A fast and elitist multiobjective genetic algorithm: NSGA-II. IEEE TEC 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from analysis.pareto import Direction

VARIANT = {"order": "net", "spare": True, "start": "first"}


def rungs_of(epochs: int, first: int, reduction_factor: float) -> tuple[int, ...]:
    """The epochs after which trials are compared: geometric, as each rung is to take as much work as the next.

    Args:
        epochs: The whole training of a trial, at least 1. Its end is no rung: there is nothing left to be saved.
        first: The first rung, at least 1.
        reduction_factor: Ratio of a rung to the one before, above 1. A ratio that is not whole gives rounded epochs.

    Returns:
        The rungs, ascending; none where ``first`` is not below ``epochs``.

    Raises:
        ValueError: ``first`` or ``reduction_factor`` is outside its range.

    Source:
        Li et al. 2020, section 3.1: r * eta^k.
    """
    if first < 1:
        raise ValueError(f"first must be at least 1, got {first}; 1 compares trials after their first epoch")
    _check_reduction_factor(reduction_factor)
    count = max(0, math.ceil(math.log(epochs / first, reduction_factor))) + 1
    rungs = {round(first * reduction_factor**k) for k in range(count)}
    return tuple(sorted(rung for rung in rungs if rung < epochs))


class Halving:
    """Says after each result at a rung whether its trial goes on: the stopping variant, without any waiting.

    Args:
        directions: The direction of each objective.
        rungs: Epochs after which trials are compared, ascending, at least 1.
        reduction_factor: About one of so many trials goes on at each rung; above 1.

    Raises:
        ValueError: An argument is outside its range.

    Source:
        Li et al. 2020, algorithm 2; Schmucker et al. 2021, algorithm 1, with its ranking by fronts.
    """

    def __init__(self, directions: Mapping[str, Direction], rungs: Sequence[int], reduction_factor: float) -> None:
        if not directions:
            raise ValueError("directions must name at least one objective, got none; add one")
        if list(rungs) != sorted(set(rungs)) or any(rung < 1 for rung in rungs):
            raise ValueError(f"rungs must be ascending epochs from 1, got {list(rungs)}; sort them")
        _check_reduction_factor(reduction_factor)
        self._signs = {name: -1.0 if direction == "maximize" else 1.0 for name, direction in directions.items()}
        self._rungs = {epoch: _Rung(len(directions)) for epoch in rungs}
        self._reduction_factor = reduction_factor

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which trials are compared, ascending."""
        return tuple(self._rungs)

    def report(self, number: str, epoch: int, values: Mapping[str, float]) -> bool:
        """Records a trial's result at a rung and says whether the trial goes on.

        Args:
            number: The trial.
            epoch: Finished epochs. After one that is no rung a trial goes on, and nothing is recorded.
            values: A finite value for each objective; others are not looked at.

        Returns:
            Whether the trial goes on. The same trial at the same rung gets the same answer again, whatever it reports:
            a trial that resumes from a checkpoint repeats epochs.

        Raises:
            ValueError: An objective is missing or not finite.
        """
        rung = self._rungs.get(epoch)
        if rung is None:
            return True
        if number not in rung.decisions:
            losses = np.array([sign * values.get(name, math.nan) for name, sign in self._signs.items()])
            if not np.isfinite(losses).all():
                raise ValueError(
                    f"values must hold a finite number for each of {', '.join(self._signs)}, got {dict(values)}; "
                    f"fail trial {number} instead"
                )
            rung.decisions[number] = rung.add(losses, self._reduction_factor)
        return rung.decisions[number]


class _Rung:
    """The results after one number of epochs, as losses (smaller is better) in the order in which they came."""

    def __init__(self, objectives: int) -> None:
        self.decisions: dict[str, bool] = {}
        self._losses = np.empty((0, objectives))

    def add(self, losses: npt.NDArray[np.float64], reduction_factor: float) -> bool:
        """Adds a result, shape (objectives,), and says whether it is among the best of all so far."""
        self._losses = np.vstack([self._losses, losses])
        kept = math.ceil(len(self._losses) / reduction_factor)
        dominators = np.count_nonzero((self._losses <= losses).all(axis=1) & (self._losses < losses).any(axis=1))
        if VARIANT["spare"] and dominators == 0:
            return True
        if dominators >= kept:  # all of them are in better fronts; most results end here, without a sort
            return False
        import moocore

        ranks = moocore.pareto_rank(self._losses)
        before = int(np.count_nonzero(ranks < ranks[-1]))
        front = self._losses[ranks == ranks[-1]]
        if before + len(front) <= kept:
            return True
        if before >= kept:
            return False
        if VARIANT["order"] == "net":
            return len(front) - 1 in _epsilon_net(front, kept - before)
        if VARIANT["order"] == "none":
            return before + len(front) <= kept
        if VARIANT["order"] == "all":
            return True
        crowd = _crowding(front)
        return int(np.count_nonzero(crowd[:-1] >= crowd[-1])) + before < kept


def _scaled(front):
    spread = np.ptp(front, axis=0)
    return (front - front.min(axis=0)) / np.where(spread > 0, spread, 1.0)


def _epsilon_net(front: npt.NDArray[np.float64], size: int) -> list[int]:
    points = _scaled(front)
    if VARIANT["start"] == "first":
        chosen = 0
    elif VARIANT["start"] == "extreme":
        chosen = int(np.argmin(points.min(axis=1)))
    else:
        chosen = int(np.argmin(points.max(axis=1)))
    net = [chosen]
    distance = np.full(len(points), np.inf)
    while len(net) < size:
        distance = np.minimum(distance, np.abs(points - points[net[-1]]).max(axis=1))
        distance[net[-1]] = -1
        net.append(int(np.argmax(distance)))
    return net


def _crowding(front: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    points = _scaled(front)
    out = np.zeros(len(points))
    for j in range(points.shape[1]):
        order = np.argsort(points[:, j], kind="stable")
        v = points[order, j]
        gap = np.full(len(v), np.inf)
        if len(v) > 2:
            gap[1:-1] = v[2:] - v[:-2]
        out[order] += gap
    return out


def _check_reduction_factor(reduction_factor: float) -> None:
    if not (math.isfinite(reduction_factor) and reduction_factor > 1):
        raise ValueError(f"reduction_factor must be above 1, got {reduction_factor:g}; 3 is usual")
