"""What a sampler looks back on: trials that are in memory already, and no more of them than it can model in time."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Sequence
from typing import Final

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.config.schema import SamplerName

# The samplers whose every suggestion fits a model to the whole history, and how many finished trials that may be.
MODELLED: Final[dict[SamplerName, int]] = {"tpe": 500}


class History(Study):
    """A study to be asked, whose sampler looks back on given trials instead of reading the storage again.

    Args:
        study: The study.
        trials: What its sampler sees, by number.
    """

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        self.__dict__.update(study.__dict__)
        self._seen = trials

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: ARG002  (Optuna's own parameter)
    ) -> list[FrozenTrial]:
        seen = [trial for trial in self._seen if states is None or trial.state in states]
        return copy.deepcopy(seen) if deepcopy else seen

    def _pop_waiting_trial_id(self) -> None:
        """None: the ledger's own queue is another, and to look for Optuna's is to read every trial."""


def recent_and_best(
    latest: Iterable[FrozenTrial], unfinished: Iterable[FrozenTrial], front: Iterable[FrozenTrial], most: int
) -> list[FrozenTrial]:
    """The part of a history that a model can do with.

    TPE needs good settings, which are on the front, and others to tell them from: those of late are where it has come
    to look.

    Args:
        latest: All trials, the last first.
        unfinished: Those of them that still run.
        front: The Pareto-optimal of them.
        most: The most finished trials to be kept.

    Returns:
        By number: every unfinished trial; of the finished ones, at most half of ``most`` from the front, evenly spaced
        along its first objective, and as many of the latest as there is room for.
    """
    seen = {trial.number: trial for trial in unfinished}
    along = sorted(front, key=lambda trial: (trial.values, trial.number))
    room = most + len(seen)
    spaced = np.linspace(0, len(along) - 1, min(len(along), most // 2)).round().astype(int)
    seen |= {along[index].number: along[index] for index in spaced}
    for trial in latest:
        if len(seen) == room:
            break
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
            seen[trial.number] = trial
    return [seen[number] for number in sorted(seen)]
