"""From units to settings: the only path from claimed to pooled to audited numbers.

A setting's claim is the mean over its units of role ``search``. It counts as audited only if all these units have been
audited; their mean audited accuracy then replaces the claim. Otherwise it stays a claim, and ``verdict`` is None.

A search judges each setting by a few seeds, so its choice is partly luck. The choice may therefore be confirmed with
seeds and images that the search has not seen. Those units change none of the numbers above. They form a record of their
own, ``confirmed``, which says how good the choice is. If some of them are audited, their mean loss under audit is
subtracted from the mean claim of all.
"""

from __future__ import annotations

import math
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
    extensions, confirmation = (defaultdict[str, list[TrialRecord]](list) for _ in range(2))
    for unit in units:
        if unit.extends is None:
            settings.append(unit)
        elif unit.state == "complete":
            (confirmation if unit.role == "confirmation" else extensions)[unit.extends].append(unit)
    return [
        replace(
            _pool([setting, *extensions[setting.number]], bounds) if setting.number in extensions else setting,
            confirmed=_confirmed(setting, confirmation[setting.number], bounds),
        )
        for setting in settings
    ]


def contenders(
    units: Iterable[TrialRecord], objectives: Mapping[str, Direction], bounds: Sequence[Constraint]
) -> list[TrialRecord]:
    """The feasible settings on the front, with the numbers to use."""
    return [setting for setting in pareto_front(settings_of(units, bounds), objectives) if setting.feasible]


def worst_verdict(verdicts: Sequence[str | None]) -> str | None:
    """The verdict on a setting whose units were audited one by one; None if one of them was not."""
    if None in verdicts:
        return None
    return next(word for word in ("masked", "suspicious", "sound") if word in verdicts)


def _pool(units: Sequence[TrialRecord], bounds: Sequence[Constraint]) -> TrialRecord:
    """The units of one setting as one record, with the number of the first."""
    setting, *extensions = units
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


def _confirmed(setting: TrialRecord, units: Sequence[TrialRecord], bounds: Sequence[Constraint]) -> TrialRecord | None:
    """The record of a setting's confirmation; None before one of its units is complete."""
    if not units:
        return None
    numbers = tuple(unit.number for unit in units)
    confirmed = replace(_pool(units, bounds), number=setting.number, extends=None, extensions=numbers)
    audited = [unit for unit in units if unit.verdict is not None and AUDITED in unit.accuracies]
    if not audited or ROBUST not in confirmed.objectives:
        return replace(confirmed, verdict=None)
    gaps = np.array([unit.value(ROBUST) - unit.accuracies[AUDITED] for unit in audited])
    gap, images = float(gaps.mean()), audited[0].images[AUDITED]
    error = 0.0
    if len(audited) < len(units):
        lost = max(gap, 1 / images)  # a sample without losses does not prove that there are none
        spread = float(gaps.var(ddof=1)) / len(gaps) if len(gaps) > 1 else 0.0
        error = math.sqrt(lost * (1 - lost) / images + spread)
    replicates = tuple(
        {**{name: value for name, value in each.items() if name != AUDITED}, CLAIMED: each[ROBUST], ROBUST: robust}
        for each in confirmed.replicates
        for robust in [each.get(AUDITED, each[ROBUST] - gap)]
    )
    claimed = confirmed.objectives[ROBUST]
    robust = claimed - gap
    return replace(
        confirmed,
        objectives={**confirmed.objectives, ROBUST: robust},
        constraints=dict(confirmed.constraints)
        | {str(bound): bound.excess(robust) for bound in bounds if bound.name == ROBUST},
        accuracies={name: value for name, value in confirmed.accuracies.items() if name != AUDITED}
        | {CLAIMED: claimed},
        replicates=replicates,
        audit_error=error,
        verdict=worst_verdict([unit.verdict for unit in audited]),
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
