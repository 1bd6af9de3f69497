"""What a sampler looks back on: trials that are in memory already, and no more of them than it can model in time."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import Final

import numpy as np
from optuna.study import Study
from optuna.study._multi_objective import _get_pareto_front_trials_by_trials
from optuna.trial import FrozenTrial, TrialState

from search.config import SamplerName

# The samplers whose every suggestion fits a model to the whole history, and how many finished trials that may be.
MODELLED: Final[Mapping[SamplerName, int]] = {"tpe": 500}


class History(Study):
    """A study to be asked, whose sampler looks back on given trials instead of reading the storage again.

    Args:
        study: The study.
        trials: All of its trials, by number.
        most: How many of the finished ones the sampler sees, chosen by ``recent_and_best``; all where it is None.
    """

    def __init__(self, study: Study, trials: Sequence[FrozenTrial], most: int | None = None) -> None:
        self.__dict__.update(study.__dict__)
        self._seen = trials if most is None else recent_and_best(study, trials, most)

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


def recent_and_best(study: Study, trials: Sequence[FrozenTrial], most: int) -> list[FrozenTrial]:
    """The part of a history that a model can do with.

    TPE needs good settings, which are on the front, and others to tell them from; where the search has been of late is
    where both are dense.

    Args:
        study: Tells the objectives' directions.
        trials: All trials, by number.
        most: The most finished trials to be kept.

    Returns:
        By number: every unfinished trial; of the finished ones, at most half of ``most`` from the feasible front,
        evenly spaced along its first objective, and as many of the latest as there is room for.
    """
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(finished) <= most:
        return list(trials)
    front = _get_pareto_front_trials_by_trials(finished, study.directions, consider_constraint=True)
    front.sort(key=lambda trial: (trial.values, trial.number))
    spaced = np.linspace(0, len(front) - 1, min(len(front), most // 2)).round().astype(int)
    chosen = {front[index].number: front[index] for index in spaced}
    for trial in reversed(finished):
        if len(chosen) == most:
            break
        chosen[trial.number] = trial
    chosen |= {trial.number: trial for trial in trials if not trial.state.is_finished()}
    return [chosen[number] for number in sorted(chosen)]
