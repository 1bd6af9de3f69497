"""How much each parameter matters for one objective, by Optuna's PED-ANOVA.

Watanabe, Bansal, Hutter 2023: PED-ANOVA. Efficiently quantifying hyperparameter importance in arbitrary subspaces.
IJCAI.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import optuna

from analysis.records import TrialRecord
from search.study.samplers import distributions
from trainables.metrics import Direction
from trainables.settings.space import Domain

_MIN_SETTINGS: Final = 4


def importances(
    settings: Sequence[TrialRecord], objective: str, direction: Direction, domains: Mapping[str, Domain]
) -> dict[str, float]:
    """The share of each parameter in the difference between the best tenth of the settings and the others.

    Args:
        settings: Complete settings. Those that lack a parameter, or lie outside the domains, are ignored.
        objective: The name of the objective.
        direction: The direction of the objective.
        domains: The searched parameters.

    Returns:
        Shares in [0, 1] that sum to 1, the largest first; empty with fewer than four settings, or if the
        parameters explain nothing.
    """
    space = distributions(domains)
    trials = [
        optuna.trial.create_trial(
            params={name: setting.parameters[name] for name in domains},
            distributions=space,
            value=setting.objectives[objective],
        )
        for setting in settings
        if all(name in setting.parameters and domains[name].contains(setting.parameters[name]) for name in domains)
    ]
    if len(trials) < _MIN_SETTINGS:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(shares) if sum(shares.values()) > 0 else {}
