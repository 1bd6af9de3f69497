"""The settings on a sweep's front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.pareto import is_nondominated, pareto_front
from analysis.records import TrialRecord
from search.config import StudyConfig


def front_of(
    settings: Sequence[TrialRecord], config: StudyConfig, answer: Mapping[str, Any] | None
) -> list[TrialRecord]:
    """The settings on the front, in the order of `analysis.pareto.pareto_front`.

    In a sweep that confirms, they are those whose posterior means no other setting dominates, because the means of a
    few seeds are too noisy. Otherwise, or if an objective has no model, the settings' own values decide, audited where
    available.

    Args:
        settings: One record per setting, by ``final.settings_of``.
        config: The sweep's configuration.
        answer: The contents of ``answer.json``; None if there is none yet.
    """
    if answer is None or not config.search.confirmation_seeds or answer["units"] != _units(settings):
        return pareto_front(settings, config.objectives)
    means = {entry["number"]: entry["means"] for entry in answer["entries"] if "parameters" in entry}
    values = [[each.get(name, math.nan) for name in config.objectives] for each in means.values()]
    if np.isnan(values).any():
        return pareto_front(settings, config.objectives)
    mask = is_nondominated(values, list(config.objectives.values()))
    on_front = {number for number, best in zip(means, mask.tolist(), strict=True) if best}
    front = [record for record in settings if record.number in on_front]
    return sorted(front, key=lambda record: _rank(means[record.number], config))


def _units(settings: Sequence[TrialRecord]) -> int:
    """The number of search units that an answer about the settings rests on; infeasible settings do not count."""
    counted = (each for each in settings if each.state == "complete" and (each.is_baseline or each.feasible))
    return sum(1 + len(each.extensions) for each in counted)


def _rank(means: Mapping[str, float], config: StudyConfig) -> list[float]:
    return [-means[name] if direction == "maximize" else means[name] for name, direction in config.objectives.items()]
