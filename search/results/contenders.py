"""Which settings deserve further seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.config import Constraint
from search.results.final import settings_of
from trainables.metrics import Direction


def contenders(
    records: Iterable[TrialRecord], objectives: Mapping[str, Direction], bounds: Sequence[Constraint]
) -> list[TrialRecord]:
    """The complete settings that deserve further seeds, as the records of their first units.

    Args:
        records: A run's units.
        objectives: The direction of each objective.
        bounds: The constraints.

    Returns:
        The baselines; the front of the first seeds; then what has come to the front of all seeds since. Settings that
        miss a constraint are left out, baselines are not.
    """
    records = list(records)
    first = {record.number: record for record in records if record.extends is None}
    baselines = [record for record in first.values() if record.is_baseline and record.state == "complete"]
    fronts = [
        *pareto_front(settings_of(first.values(), bounds), objectives),
        *pareto_front(settings_of(records, bounds), objectives),
    ]
    numbers = [record.number for record in baselines] + [record.number for record in fronts if record.feasible]
    return [first[number] for number in dict.fromkeys(numbers)]
