"""The only path from claimed to pooled to audited numbers.

Claims are pooled first: a setting's number is the mean over its units. It counts as audited only if every one of these
units has been audited; then the mean of what the audits left takes the claim's place. Otherwise it stays a claim, and
``verdict`` is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analysis.records import TrialRecord
from search.config import Constraint
from search.results.metrics import UnitResult
from search.results.pooling import pooled
from trainables.metrics import AUDITED, CLAIMED, ROBUST


def settings_of(records: Iterable[TrialRecord], bounds: Sequence[Constraint]) -> list[TrialRecord]:
    """One record per setting, with the numbers to use.

    Args:
        records: A run's units.
        bounds: The constraints; they are judged by the same numbers.

    Returns:
        The settings in the order of their first units. What was claimed is ``claimed_accuracy`` among the accuracies of
        an audited one.
    """
    return [
        _audited(setting, bounds) if AUDITED in setting.accuracies else setting for setting in pooled(records, bounds)
    ]


def unit_values(result: UnitResult) -> dict[str, float]:
    """The numbers to use of a single unit, by name: what Optuna is told of a setting's first one."""
    values = result.values
    return values if result.audit is None else {**values, ROBUST: result.audit["accuracy"]}


def _audited(setting: TrialRecord, bounds: Sequence[Constraint]) -> TrialRecord:
    """A setting with its audited number in the claim's place."""

    def swapped(values: Mapping[str, float]) -> dict[str, float]:
        kept = {name: value for name, value in values.items() if name != AUDITED}
        return kept | {ROBUST: values[AUDITED], CLAIMED: values[ROBUST]}

    values = swapped({**setting.accuracies, **setting.objectives})
    return replace(
        setting,
        objectives={name: values[name] for name in setting.objectives},
        constraints=dict(setting.constraints)
        | {str(bound): bound.excess(values[ROBUST]) for bound in bounds if bound.name == ROBUST},
        accuracies={name: value for name, value in values.items() if name not in setting.objectives},
        replicates=tuple(map(swapped, setting.replicates)),
        images={
            **{name: images for name, images in setting.images.items() if name != AUDITED},
            ROBUST: setting.images[AUDITED],
        },
    )
