"""The hypervolume of a front: the volume that it dominates, in units that make every objective count.

Zitzler, Thiele 1998: Multiobjective optimization using evolutionary algorithms. PPSN V.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt

from analysis.pareto import complete_search_trials
from analysis.records import TrialRecord
from trainables.metrics import CLEAN, Direction

if TYPE_CHECKING:
    import pandas as pd

_CLEAN_MARGIN: Final = 0.02
_MARGIN: Final = 0.1  # of every other accuracy


@dataclass(frozen=True)
class Reference:
    """The origin and the units in which a run's hypervolume is measured. Once fixed, nothing moves it.

    With (0, 0) as the origin, all fronts near 97 % clean accuracy differ in their robust accuracy alone. Measured from
    just below the baselines, in units of that margin, a gain counts in either objective.
    """

    point: Mapping[str, float]  # for each objective, the value at which a point begins to count, in its unit
    scale: Mapping[str, float]  # for each objective, the length that counts as 1, in its unit; above 0

    def volume(self, points: npt.ArrayLike, objectives: Mapping[str, Direction]) -> float:
        """The hypervolume of ``(value - point) / scale``, without a unit.

        Args:
            points: Objective values. Shape (n, k); n may be 0.
            objectives: The direction of each objective, in the order of the columns. Length k.
        """
        point, scale = ([axis[name] for name in objectives] for axis in (self.point, self.scale))
        shifted = np.asarray(points, dtype=np.float64).reshape(-1, len(objectives)) - point
        return hypervolume(shifted / scale, list(objectives.values()), [0.0] * len(objectives))

    def to_json(self) -> dict[str, dict[str, float]]:
        """Plain JSON: ``{"clean_accuracy": {"point": 0.95, "scale": 0.02}, ...}``."""
        return {name: {"point": self.point[name], "scale": self.scale[name]} for name in self.point}

    @classmethod
    def from_json(cls, document: Mapping[str, Mapping[str, float]]) -> Self:
        """Reads what ``to_json`` wrote."""
        return cls(*({name: float(axis[key]) for name, axis in document.items()} for key in ("point", "scale")))


def reference_from(baselines: Sequence[Mapping[str, float]], objectives: Mapping[str, Direction]) -> Reference:
    """The reference of a run, from the baselines that are trained beside every search.

    An accuracy is measured from a margin below its lowest baseline, in units of that margin. A minimised objective has
    no natural margin: it is measured from twice its dearest baseline, in units of that baseline.

    Args:
        baselines: The objectives of each baseline's first seed; at least one baseline.
        objectives: The direction of each objective. What is maximised is an accuracy.
    """
    point, scale = {}, {}
    for name, direction in objectives.items():
        values = [baseline[name] for baseline in baselines]
        if direction == "minimize":
            scale[name] = abs(max(values)) or 1.0
            point[name] = max(values) + scale[name]
        else:
            scale[name] = _margin(name)
            point[name] = min(values) - scale[name]
    return Reference(point, scale)


def reference_rule(objectives: Mapping[str, Direction]) -> str:
    """What ``reference_from`` does, for people, before any baseline has finished."""
    return ", ".join(
        f"{name} {'twice the dearest' if direction == 'minimize' else f'{_margin(name):g} below the lowest'} baseline"
        for name, direction in objectives.items()
    )


def _margin(accuracy: str) -> float:
    return _CLEAN_MARGIN if accuracy == CLEAN else _MARGIN


def hypervolume(points: npt.ArrayLike, directions: Sequence[Direction], reference: Sequence[float]) -> float:
    """The exact volume between a reference point and the points, in the product of the objectives' units.

    Args:
        points: Objective values. Shape (n, k); n may be 0.
        directions: The direction of each objective. Length k.
        reference: The reference point. Length k. A point that is not better in every objective adds nothing.

    Source:
        Zitzler and Thiele 1998 ("size of the space covered"); computed by moocore.
    """
    import moocore

    values = np.asarray(points, dtype=np.float64).reshape(-1, len(directions))
    if not len(values):
        return 0.0
    return float(moocore.hypervolume(values, ref=list(reference), maximise=[d == "maximize" for d in directions]))


class GrowingFront:
    """The front of points that arrive one by one. Adding a point costs as much as the front is long."""

    def __init__(self, directions: Sequence[Direction]) -> None:
        self._signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
        self._losses = np.empty((0, len(directions)))

    @property
    def points(self) -> npt.NDArray[np.float64]:
        """The objective values on the front. Shape (n, k)."""
        return self._signs * self._losses

    def add(self, point: npt.ArrayLike) -> bool:
        """Adds a point (k,), unless another is at least as good in every objective.

        Returns:
            Whether the front has changed.
        """
        loss = self._signs * np.asarray(point, dtype=np.float64)
        if (self._losses <= loss).all(axis=1).any():
            return False
        stays = (self._losses < loss).any(axis=1)
        self._losses = np.vstack([self._losses[stays], loss])
        return True


class SearchFront(GrowingFront):
    """A search's front, trial by trial, with its hypervolume, which is 0 until there is a reference."""

    def __init__(self, objectives: Mapping[str, Direction]) -> None:
        super().__init__(list(objectives.values()))
        self._objectives = objectives
        self._reference: Reference | None = None
        self.hypervolume = 0.0

    def refer_to(self, reference: Reference) -> None:
        """Measures the hypervolume from this reference from now on."""
        self._reference, self.hypervolume = reference, 0.0
        self._measure()

    def take(self, record: TrialRecord) -> None:
        """Takes a trial. One that may not be on a front, or misses a constraint, changes nothing."""
        for candidate in complete_search_trials([record]):
            point = [candidate.objectives[name] for name in self._objectives]
            if candidate.feasible and self.add(point):
                self._measure()

    def _measure(self) -> None:
        if self._reference is not None:
            # A larger front has a larger volume; rounding must not say otherwise.
            self.hypervolume = max(self.hypervolume, self._reference.volume(self.points, self._objectives))


def hypervolume_trace(
    records: Iterable[TrialRecord], objectives: Mapping[str, Direction], reference: Reference
) -> pd.DataFrame:
    """How the front's hypervolume grew over a search.

    Returns:
        One row per complete trial of the search, in the order of finishing: number, hypervolume. The hypervolume never
        falls; a trial that misses a constraint adds nothing.
    """
    import pandas as pd

    finished = sorted(complete_search_trials(records), key=lambda record: (record.finished or 0.0, int(record.number)))
    front, volumes = SearchFront(objectives), []
    front.refer_to(reference)
    for record in finished:
        front.take(record)
        volumes.append(front.hypervolume)
    return pd.DataFrame({"number": [record.number for record in finished], "hypervolume": volumes})
