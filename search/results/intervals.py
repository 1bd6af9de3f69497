"""Intervals of accuracies from the outcome of each image under each seed.

They are for another training seed and other images of the same kind: see
`analysis.statistics.seeds_and_images_interval`. Where these outcomes are missing, as for audited numbers, a record
keeps the intervals from each seed's accuracy alone, which are too wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis.records import TrialRecord
from analysis.statistics import seeds_and_images_interval
from search.runs.folder import RunFolder
from trainables.metrics import CLAIMED, ROBUST
from trainables.robustness import Outcomes

if TYPE_CHECKING:
    import numpy.typing as npt


# Whether a unit classifies each image correctly, by the accuracy's name: bool (replicates, images).
Kept = Mapping[str, "npt.NDArray[np.bool_]"]


def outcomes_of(folder: Path | None, unit: TrialRecord) -> Kept | None:
    """The outcomes of a unit on each image; None without its file in the run's ``folder``."""
    return _read(folder / unit.outcomes) if folder is not None and unit.outcomes else None


def with_intervals(run: RunFolder, units: Iterable[TrialRecord], records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Records of settings or of single units, with the intervals from the outcomes of their ``units``."""
    paths = {unit.number: run.folder / unit.outcomes for unit in units if unit.outcomes}

    def completed(record: TrialRecord) -> TrialRecord:
        result = with_intervals_of(record, [paths.get(number) for number in record.units])
        return result if record.confirmed is None else replace(result, confirmed=completed(record.confirmed))

    return list(map(completed, records))


def with_intervals_of(record: TrialRecord, outcomes: Sequence[Path | None]) -> TrialRecord:
    """A record with the intervals from the files of its units' outcomes; unchanged if one is missing."""
    if len(record.replicates) < 2:
        return record
    parts = [part for path in outcomes if path is not None and (part := _read(path)) is not None]
    if len(parts) < len(outcomes):
        return record
    intervals = {}
    for name in set(parts[0]).intersection(*parts):
        arrays = [part[name] for part in parts]
        if len({kept.shape[1] for kept in arrays}) == 1 and sum(map(len, arrays)) == len(record.replicates):
            intervals[name] = seeds_and_images_interval(np.concatenate(arrays))
    if CLAIMED in record.accuracies and ROBUST in intervals:  # the outcomes are the claim's
        intervals[CLAIMED] = intervals.pop(ROBUST)
    return replace(record, intervals=intervals)


def _read(path: Path) -> Kept | None:
    return Outcomes.load(path).by_name() if path.is_file() else None
