"""Pooling: a setting's numbers over all its units.

A search judges each setting by a few seeds, and its front favours the lucky ones. The contenders are trained with
further seeds, and the means over all seeds decide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from analysis.records import TrialRecord
from search.config import Constraint


def pooled(records: Iterable[TrialRecord], bounds: Sequence[Constraint]) -> list[TrialRecord]:
    """One record per setting, its numbers the means over its complete units.

    Args:
        records: A run's units.
        bounds: The constraints.

    Returns:
        The settings in the order of their first units. A number that some units lack (an audit of one of three) is left
        out. The record's own times are those of all its training and attacks.
    """
    settings: list[TrialRecord] = []
    extensions = defaultdict[str, list[TrialRecord]](list)
    for record in records:
        if record.extends is None:
            settings.append(record)
        elif record.state == "complete":
            extensions[record.extends].append(record)
    return [
        _pool(setting, extensions[setting.number], bounds) if setting.number in extensions else setting
        for setting in settings
    ]


def worst_verdict(verdicts: Sequence[str | None]) -> str | None:
    """The verdict on a setting whose units were audited one by one; None if one of them was not."""
    if None in verdicts:
        return None
    return next(word for word in ("masked", "suspicious", "sound") if word in verdicts)


def _pool(setting: TrialRecord, extensions: Sequence[TrialRecord], bounds: Sequence[Constraint]) -> TrialRecord:
    units = [setting, *extensions]
    replicates = tuple(replicate for unit in units for replicate in unit.replicates)

    def mean(name: str) -> float:
        return float(np.mean([replicate[name] for replicate in replicates]))

    return replace(
        setting,
        objectives={name: mean(name) for name in setting.objectives},
        constraints={str(bound): bound.excess(mean(bound.name)) for bound in bounds},
        accuracies={name: mean(name) for name in setting.accuracies if all(name in each for each in replicates)},
        replicates=replicates,
        seeds=tuple(seed for unit in units for seed in unit.seeds),
        train_seconds=sum(unit.train_seconds for unit in units),
        attack_seconds=sum(unit.attack_seconds for unit in units),
        extensions=tuple(unit.number for unit in extensions),
        verdict=worst_verdict([unit.verdict for unit in units]),
    )
