"""From units to settings: the only path from claimed to pooled to audited numbers.

A search judges each setting by a few seeds, and its front favours the lucky ones. So the ``contenders`` are trained
with further seeds, and a setting's claim is the mean over all its units. It counts as audited only if all these units
have been audited; then the mean of what the audits left takes the claim's place. Otherwise it stays a claim, and
``verdict`` is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.config import Constraint
from search.results.metrics import UnitResult
from trainables.metrics import AUDITED, CLAIMED, ROBUST, Direction


def settings_of(units: Iterable[TrialRecord], bounds: Sequence[Constraint]) -> list[TrialRecord]:
    """One record per setting, with the numbers to use, in the order of the settings' first units.

    The constraints ``bounds`` are judged by the same numbers. An audited setting has its claim as ``claimed_accuracy``
    among the accuracies.
    """
    return [
        _audited(setting, bounds) if AUDITED in setting.accuracies else setting for setting in pooled(units, bounds)
    ]


def unit_values(result: UnitResult) -> dict[str, float]:
    """The numbers to use of a single unit, by name: what Optuna is told of a setting's first one."""
    values = result.values
    return values if result.audit is None else {**values, ROBUST: result.audit["accuracy"]}


def pooled(units: Iterable[TrialRecord], bounds: Sequence[Constraint]) -> list[TrialRecord]:
    """One record per setting, with the means of its complete units' claims, in the order of the first units.

    A number that some units lack (an audit of one of three) is left out. ``train_seconds`` and ``attack_seconds`` of
    the record itself are sums over its units.
    """
    settings: list[TrialRecord] = []
    extensions = defaultdict[str, list[TrialRecord]](list)
    for unit in units:
        if unit.extends is None:
            settings.append(unit)
        elif unit.state == "complete":
            extensions[unit.extends].append(unit)
    return [
        _pool(setting, extensions[setting.number], bounds) if setting.number in extensions else setting
        for setting in settings
    ]


def contenders(
    units: Iterable[TrialRecord], objectives: Mapping[str, Direction], bounds: Sequence[Constraint]
) -> list[TrialRecord]:
    """The complete settings that deserve further seeds, as the records of their first units.

    These are the baselines, the front of the first seeds, then what has come to the front of all seeds since. Settings
    that miss a constraint are left out, baselines are not.
    """
    units = list(units)
    first = {unit.number: unit for unit in units if unit.extends is None}
    baselines = [unit for unit in first.values() if unit.is_baseline and unit.state == "complete"]
    fronts = [
        setting
        for known in (first.values(), units)
        for setting in pareto_front(settings_of(known, bounds), objectives)
        if setting.feasible
    ]
    return [first[number] for number in dict.fromkeys(setting.number for setting in [*baselines, *fronts])]


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


def _audited(setting: TrialRecord, bounds: Sequence[Constraint]) -> TrialRecord:
    """A setting with its audited number in the claim's place."""

    def swapped(values: Mapping[str, float]) -> dict[str, float]:
        kept = {name: value for name, value in values.items() if name != AUDITED}
        return kept | {ROBUST: values[AUDITED], CLAIMED: values[ROBUST]}

    values = swapped({**setting.accuracies, **setting.objectives})
    images = {name: count for name, count in setting.images.items() if name != AUDITED}
    return replace(
        setting,
        objectives={name: values[name] for name in setting.objectives},
        constraints=dict(setting.constraints)
        | {str(bound): bound.excess(values[ROBUST]) for bound in bounds if bound.name == ROBUST},
        accuracies={name: value for name, value in values.items() if name not in setting.objectives},
        replicates=tuple(map(swapped, setting.replicates)),
        images={**images, ROBUST: setting.images[AUDITED]},
    )
