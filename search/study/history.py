"""What a sampler looks back on: one entry per setting, from memory, and no more of them than it can model in time."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Container, Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.records import REPLICATES_PREFIX, kind_of, split_number
from search.config import SweepConfig
from search.results.final import settings_of
from search.results.metrics import UnitResult
from search.study.trials import RESULT, Trials, extended, record_of


class History(Study):
    """A study whose sampler looks back on the trials ``seen`` (by number) instead of reading the storage again."""

    def __init__(self, study: Study, seen: Sequence[FrozenTrial]) -> None:
        self.__dict__.update(study.__dict__)
        self._seen = seen

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: ARG002  (Optuna's own parameter)
    ) -> list[FrozenTrial]:
        seen = [trial for trial in self._seen if states is None or trial.state in states]
        return copy.deepcopy(seen) if deepcopy else seen

    def _pop_waiting_trial_id(self) -> None:
        """Always None: the ledger has a queue of its own, and looking for Optuna's reads every trial."""


class Lookback:
    """The search's settings as a sampler sees them: one entry each, worth what its finished units are worth together.

    ``search`` holds each setting's first unit, ``extensions`` the other seeds.
    """

    def __init__(self, config: SweepConfig, search: Trials, extensions: Trials) -> None:
        self._config, self._search, self._extensions = config, search, extensions
        self._pooled: dict[int, tuple[int, FrozenTrial]] = {}  # by setting: how many units it rests on, and the entry

    def entries(self, most: int | None) -> list[FrozenTrial]:
        """The settings by number; of finished ones, at most ``most`` (None for all)."""
        pools = self._pools()
        entries = [pools.get(trial.number, trial) for trial in self._search]
        return entries if most is None else recent_and_best(entries, self._front(entries), most)

    def _front(self, entries: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The Pareto-optimal entries that meet every constraint; of equal ones, the first."""
        import moocore  # late, because only one sampler needs it

        directions = self._config.objectives.values()
        complete = [
            entry
            for entry in entries
            if entry.state == TrialState.COMPLETE and all(excess <= 0 for excess in entry.constraints.values())
        ]
        points = np.array([entry.values for entry in complete]).reshape(-1, len(directions))
        best = moocore.is_nondominated(points, maximise=[direction == "maximize" for direction in directions])
        return [entry for entry, is_best in zip(complete, best, strict=True) if is_best]

    def _pools(self) -> dict[int, FrozenTrial]:
        """The entries that rest on several units, by number."""
        parts = defaultdict[int, list[FrozenTrial]](list)
        for row, extension in extended(self._extensions):
            of_search = extension.role == "search" and kind_of(extension.number) == "search"
            if of_search and row.state == TrialState.COMPLETE:
                parts[split_number(extension.number)[1]].append(row)
        for number, rows in parts.items():
            trial = self._search[number]
            if self._pooled.get(number, (0, trial))[0] != len(rows) and trial.state == TrialState.COMPLETE:
                self._pooled[number] = len(rows), self._pool(trial, rows)
        return {number: self._pooled[number][1] for number in parts if number in self._pooled}

    def _pool(self, trial: FrozenTrial, rows: Sequence[FrozenTrial]) -> FrozenTrial:
        units = {str(trial.number): trial, **{f"{REPLICATES_PREFIX}{row.number}": row for row in rows}}
        # With the audits that workers made; others come too late for the search.
        records = [
            record_of(number, row, UnitResult.from_json(row.user_attrs[RESULT]).audit, self._config)
            for number, row in units.items()
        ]
        (setting,) = settings_of(records, self._config.bounds)
        pooled = create_trial(
            values=[setting.objectives[name] for name in self._config.objectives], constraints=dict(setting.constraints)
        )
        entry = copy.copy(trial)
        entry.values, entry.system_attrs = pooled.values, {**trial.system_attrs, **pooled.system_attrs}
        return entry


def recent_and_best(trials: Sequence[FrozenTrial], front: Sequence[FrozenTrial], most: int) -> list[FrozenTrial]:
    """The part of a history (by number) that a model needs, with at most ``most`` finished trials.

    TPE needs good settings, which are on the front, and others to tell them from. The latest ones lie where it is
    looking now. So these are every unfinished trial, up to half of ``most`` from the front, evenly spaced along its
    first objective, and as many of the latest as there is room for.
    """
    seen = {trial.number: trial for trial in trials if not trial.state.is_finished()}
    along = sorted(front, key=lambda trial: (trial.values, trial.number))
    room = most + len(seen)
    spaced = np.linspace(0, len(along) - 1, min(len(along), most // 2)).round().astype(int)
    seen |= {along[index].number: along[index] for index in spaced}
    for trial in reversed(trials):
        if len(seen) == room:
            break
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            seen[trial.number] = trial
    return [seen[number] for number in sorted(seen)]
