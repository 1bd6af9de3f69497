"""The volume that a front dominates: one number for the quality of a front, fair only against a fixed reference point.

Zitzler, Thiele 1998: Multiobjective optimization using evolutionary algorithms. PPSN V.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from analysis.pareto import Direction, complete_search_trials, objective_matrix
from analysis.records import TrialRecord

if TYPE_CHECKING:
    import pandas as pd

# The worst value of an accuracy: it depends on no front, so that volumes of different runs can be compared.
REFERENCE: Final = 0.0

T = TypeVar("T")


def reference_point(objectives: Mapping[str, Direction], given: Mapping[str, float] | None = None) -> dict[str, float]:
    """The reference point of a run, to be recorded with every volume measured from it.

    Args:
        objectives: Each objective's direction.
        given: Coordinates that differ from ``REFERENCE``. A minimised objective has no natural worst value: it needs
            one.

    Returns:
        A coordinate for each objective, in its own unit.

    Raises:
        ValueError: A minimised objective has no given coordinate, or an unknown objective has one.
    """
    given = given or {}
    for name in given:
        if name not in objectives:
            raise ValueError(f"reference must name objectives ({', '.join(objectives)}), got {name}; remove it")
    for name, direction in objectives.items():
        if direction == "minimize" and name not in given:
            raise ValueError(f"reference must give {name}, which is minimised, got nothing; give its worst value")
    return {name: given.get(name, REFERENCE) for name in objectives}


def hypervolume(points: npt.ArrayLike, directions: Sequence[Direction], reference: Sequence[float]) -> float:
    """The exact volume between the reference point and the points.

    Args:
        points: Objective values. Shape (n, k); n may be 0.
        directions: The direction of each objective, k of them.
        reference: The reference point, k coordinates. A point that is not better in every objective adds nothing.

    Returns:
        The volume, in the product of the objectives' units; of accuracies and ``REFERENCE``, in [0, 1].

    Source:
        Zitzler and Thiele 1998, section 3.2 ("size of the space covered"); computed by moocore.
    """
    import moocore

    values = np.asarray(points, dtype=np.float64).reshape(-1, len(directions))
    if not len(values):
        return 0.0
    return float(moocore.hypervolume(values, ref=list(reference), maximise=[d == "maximize" for d in directions]))


class GrowingFront(Generic[T]):
    """The front of points that come one by one: a point costs what the front is long, not what came before.

    Args:
        directions: The direction of each objective, k of them.
    """

    def __init__(self, directions: Sequence[Direction]) -> None:
        self._signs = np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
        self._losses = np.empty((0, len(directions)))
        self.members: list[T] = []

    @property
    def points(self) -> npt.NDArray[np.float64]:
        """The objective values of the members. Shape (members, k)."""
        return self._signs * self._losses

    def add(self, point: npt.ArrayLike, member: T) -> bool:
        """Takes a point, unless another is as good.

        Args:
            point: Its objective values. Shape (k,).
            member: Whose they are.

        Returns:
            Whether the front has changed.
        """
        loss = self._signs * np.asarray(point, dtype=np.float64)
        if (self._losses <= loss).all(axis=1).any():
            return False
        stays = np.flatnonzero((loss > self._losses).any(axis=1))
        self._losses = np.vstack([self._losses[stays], loss])
        self.members = [*(self.members[index] for index in stays), member]
        return True


class SearchFront(GrowingFront[TrialRecord]):
    """A search's front, trial by trial, with its hypervolume: 0 as long as there is no reference point.

    Args:
        objectives: Each objective's direction.
    """

    def __init__(self, objectives: Mapping[str, Direction]) -> None:
        super().__init__(list(objectives.values()))
        self._objectives = objectives
        self._reference: list[float] | None = None
        self.hypervolume = 0.0

    def refer_to(self, reference: Mapping[str, float]) -> None:
        """Measures from now on from this reference point, a coordinate for each objective."""
        self._reference = [reference[name] for name in self._objectives]
        self._measure()

    def take(self, record: TrialRecord) -> None:
        """Takes a trial; those that may not stand on a front, or miss a constraint, change nothing."""
        for candidate in complete_search_trials([record]):
            if candidate.feasible and self.add(objective_matrix([candidate], self._objectives)[0], candidate):
                self._measure()

    def _measure(self) -> None:
        if self._reference is not None:
            self.hypervolume = hypervolume(self.points, list(self._objectives.values()), self._reference)


def hypervolume_trace(
    records: Iterable[TrialRecord], objectives: Mapping[str, Direction], reference: Mapping[str, float]
) -> pd.DataFrame:
    """How the front's hypervolume grew over a search.

    Args:
        records: The trials. Only the search's complete ones count; one that misses a constraint adds nothing.
        objectives: Each objective's direction.
        reference: The coordinates of ``reference_point``.

    Returns:
        One row a complete trial, in the order in which they finished: number, finished (Unix time), hypervolume.
        The column hypervolume never falls.
    """
    import pandas as pd

    finished = sorted(complete_search_trials(records), key=lambda record: (record.finished or 0.0, int(record.number)))
    front, volumes = SearchFront(objectives), []
    front.refer_to(reference)
    for record in finished:
        front.take(record)
        volumes.append(front.hypervolume)
    return pd.DataFrame(
        {
            "number": pd.Series([record.number for record in finished], dtype="string"),
            "finished": pd.Series([record.finished for record in finished], dtype=np.float64),
            "hypervolume": pd.Series(volumes, dtype=np.float64),
        }
    )
