"""Further replicates of contenders: whose they are, and the numbers that rest on all replicates together.

A search judges each setting by a few seeds, and its front favours the lucky ones. Those on it, and the baselines, are
trained with further seeds; their means over all seeds then decide who stays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.pareto import Direction, pareto_front
from analysis.records import CLAIMED, VERIFIED, WORST_CASE, TrialRecord
from search.config.objectives import Constraint


def pooled(records: Iterable[TrialRecord], bounds: Sequence[Constraint]) -> list[TrialRecord]:
    """One record a setting, its numbers those of all its replicates.

    Args:
        records: A run's trials.
        bounds: The constraints.

    Returns:
        The trials in the given order, without those that extend another. What has been measured of each replicate is
        the mean over all of them; a wall time that is sought is that of as many replicates as the setting had at first,
        so that settings can be compared. The record's own times are those of all its training and attacks.
    """
    trials: list[TrialRecord] = []
    extensions = defaultdict[str, list[TrialRecord]](list)
    for record in records:
        if record.extends is None:
            trials.append(record)
        elif record.state == "complete":
            extensions[record.extends].append(record)
    return [_pool(trial, extensions[trial.number], bounds) if trial.number in extensions else trial for trial in trials]


def contenders(
    records: Iterable[TrialRecord], objectives: Mapping[str, Direction], bounds: Sequence[Constraint]
) -> list[TrialRecord]:
    """The complete trials that deserve further replicates, as their own records.

    Args:
        records: A run's trials.
        objectives: The direction of each objective.
        bounds: The constraints.

    Returns:
        The baselines; the members of the search's front; then those that have come to the front of the pooled numbers
        since. Only settings that meet the constraints are among the latter two.
    """
    records = list(records)
    own = {record.number: record for record in records}
    baselines = [record for record in records if record.is_baseline and record.state == "complete"]
    fronts = [*pareto_front(records, objectives), *pareto_front(pooled(records, bounds), objectives)]
    numbers = [record.number for record in baselines] + [record.number for record in fronts if record.feasible]
    return [own[number] for number in dict.fromkeys(numbers)]


def _pool(trial: TrialRecord, extensions: Sequence[TrialRecord], bounds: Sequence[Constraint]) -> TrialRecord:
    """A complete trial and what extends it as one record."""
    parts = [trial, *extensions]
    replicates = tuple(replicate for part in parts for replicate in part.replicates)

    def value(name: str) -> float:
        if all(name in replicate for replicate in replicates):
            return float(np.mean([replicate[name] for replicate in replicates]))
        seconds: float = sum(getattr(part, name) for part in parts)  # a wall time, of all replicates together
        return seconds / len(replicates) * len(trial.replicates)

    return replace(
        trial,
        objectives={name: value(name) for name in trial.objectives},
        constraints={str(bound): bound.excess(value(bound.name)) for bound in bounds},
        # An audit of some of the replicates says nothing of their mean.
        accuracies={name: value(name) for name in trial.accuracies if all(name in one for one in replicates)},
        replicates=replicates,
        seeds=tuple(seed for part in parts for seed in part.seeds),
        train_seconds=sum(part.train_seconds for part in parts),
        attack_seconds=sum(part.attack_seconds for part in parts),
        extensions=tuple(part.number for part in extensions),
        verdict=worst_verdict([part.verdict for part in parts]),
    )


def worst_verdict(verdicts: Sequence[str | None]) -> str | None:
    """The verdict on a setting whose replicates were audited apart; None where one of them was not."""
    if None in verdicts:
        return None
    return next(word for word in ("masked", "suspicious", "sound") if word in verdicts)


def verified(settings: Iterable[TrialRecord], bounds: Sequence[Constraint]) -> list[TrialRecord]:
    """The settings with what an audit left of their robust accuracy in its place, wherever there was an audit.

    Args:
        settings: What ``pooled`` gave.
        bounds: The constraints, which are judged by the verified number too.

    Returns:
        The settings in the given order. What was claimed is ``claimed_accuracy`` among the accuracies then.
    """
    return [_verified(setting, bounds) if VERIFIED in setting.accuracies else setting for setting in settings]


def _verified(setting: TrialRecord, bounds: Sequence[Constraint]) -> TrialRecord:
    def swapped(values: Mapping[str, float]) -> dict[str, float]:
        kept = {name: value for name, value in values.items() if name != VERIFIED}
        return kept | {WORST_CASE: values[VERIFIED], CLAIMED: values[WORST_CASE]}

    values = swapped({**setting.accuracies, **setting.objectives})
    return replace(
        setting,
        objectives={name: values[name] for name in setting.objectives},
        constraints=dict(setting.constraints)
        | {str(bound): bound.excess(values[WORST_CASE]) for bound in bounds if bound.name == WORST_CASE},
        accuracies={name: value for name, value in values.items() if name not in setting.objectives},
        replicates=tuple(map(swapped, setting.replicates)),
        images={
            **{name: images for name, images in setting.images.items() if name != VERIFIED},
            WORST_CASE: setting.images[VERIFIED],
        },
    )
