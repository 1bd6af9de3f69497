"""Which settings a sweep puts forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.config import SweepConfig


def front_of(
    settings: Sequence[TrialRecord], config: SweepConfig, answer: Mapping[str, Any] | None
) -> list[TrialRecord]:
    """The settings on the front, in the order of `analysis.pareto.pareto_front`.

    If the choice is confirmed, they are those whose posterior means no other setting dominates: chance moves the means
    of a few seeds too far. The numbers of the others are what decides otherwise, audited ones where there are any.

    Args:
        settings: One record per setting, by ``final.settings_of``.
        config: The sweep's.
        answer: The contents of ``answer.json``; None before there is any.
    """
    if answer is not None and config.search.confirmation_seeds and answer["units"] == _units(settings):
        entries = {entry["number"]: entry for entry in answer["entries"] if entry["on_front"]}
        on_front = [record for record in settings if record.number in entries and not record.is_baseline]
        return sorted(on_front, key=lambda record: _rank(entries[record.number]["means"], config))
    return pareto_front(settings, config.objectives)


def _units(settings: Sequence[TrialRecord]) -> int:
    """How many units of the search the settings rest on."""
    return sum(1 + len(record.extensions) for record in settings if record.state == "complete")


def _rank(means: Mapping[str, float], config: SweepConfig) -> list[float]:
    return [-means[name] if config.objectives[name] == "maximize" else means[name] for name in means]
