"""The measurements of a search, unit by unit, for samplers that choose seeds as well as settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from analysis.noise import NoiseModel, Observation, Parameters, Setting, fit, setting_key
from analysis.records import BASELINE_PREFIX
from search.config import SweepConfig
from search.results.metrics import UnitResult
from search.study.trials import ORIGIN, RESULT, Extension, Trials, candidate_of, extended, measured
from trainables.defences import Defence
from trainables.metrics import ATTACK_PASSES, TRAIN_PASSES
from trainables.settings.space import Domain

_Unit = tuple[Setting, int]


@dataclass(frozen=True)
class Observed:
    """The complete and the running units of role ``search``.

    Args:
        space: The searched parameters.
        settings: The settings that have begun, in order.
        complete: The settings with a result that may get another seed, by number.
        values: For each complete unit, its setting (or baseline), its seed and all its measured numbers.
        running: The setting and seed of each running unit.
        next_seeds: For each complete setting, by number, the index of its next seed and the seed itself. A seed that no
            unit has yet is a placeholder, unique to its index.
        first_seed: The seed of a new setting.
        tried: The keys of all settings that ever began.
    """

    space: Mapping[str, Domain]
    settings: tuple[Parameters, ...]
    complete: Mapping[str, Parameters]
    values: tuple[tuple[Setting, int, Mapping[str, float]], ...]
    running: tuple[_Unit, ...]
    next_seeds: Mapping[str, tuple[int, int]]
    first_seed: int
    tried: frozenset[Hashable]

    def model(self, metric: str) -> NoiseModel:
        """The noise model of one of the measured numbers."""
        units = [Observation(setting=setting, seed=seed, value=values[metric]) for setting, seed, values in self.values]
        return fit(units, self.space)

    def work(self, setting: Setting, defence: Defence) -> float:
        """How many images a unit of a setting is expected to pass through the model, in training and attacks.

        It is the mean over the setting's own units. For a new setting, it is the mean over all units, with their
        training scaled to the new setting's defence. It is 1 if no unit has counts, as in a simulation.

        Args:
            setting: A point of the space, or a baseline.
            defence: The problem's, with its own value of every parameter that is not searched.
        """
        own = [_passed(values) for other, _, values in self.values if other == setting]
        if own:
            return float(np.mean(own)) or 1.0
        passes = _passes(setting, defence)
        expected = [_passed(values, passes / _passes(other, defence)) for other, _, values in self.values]
        return float(np.mean(expected)) or 1.0

    def extension(self, number: str) -> Extension:
        """The next seed of a complete setting."""
        return Extension(number, self.next_seeds[number][0], "search")


def observe(
    config: SweepConfig, modelled: Iterable[FrozenTrial], search: Trials, baselines: Trials, extensions: Trials
) -> Observed:
    """The measurements in a ledger's rows, for the settings whose first units are ``modelled``."""

    def point(row: FrozenTrial) -> Parameters:
        parameters = candidate_of(row).parameters
        return {name: parameters[name] for name in config.domains}

    rows = {str(trial.number): trial for trial in modelled if trial.state in (TrialState.COMPLETE, TrialState.RUNNING)}
    settings: dict[str, Setting] = {number: point(row) for number, row in rows.items()}
    for row in baselines:
        settings[f"{BASELINE_PREFIX}{row.number}"] = f"{BASELINE_PREFIX}{row.number}"
    units = [(number, 0, row) for number, row in rows.items()]
    units += [(f"{BASELINE_PREFIX}{row.number}", 0, row) for row in baselines]
    begun = defaultdict[str, set[int]](set)
    for row, extension in extended(extensions):
        if row.state != TrialState.FAIL:
            begun[extension.number].add(extension.seed)
            if extension.role == "search" and extension.number in settings:
                units.append((extension.number, extension.seed, row))
    seeds: dict[int, int] = {}
    values = []
    for number, index, row in units:
        if row.state == TrialState.COMPLETE:
            seed = UnitResult.from_json(row.user_attrs[RESULT]).seed_value
            values.append((settings[number], seed, measured(row)))
            if ORIGIN not in row.user_attrs:
                seeds[index] = seed

    def seed_of(index: int) -> int:
        return seeds.get(index, -1 - index)

    complete = {
        number: settings[number]
        for number, row in rows.items()
        if row.state == TrialState.COMPLETE and ORIGIN not in row.user_attrs
    }
    following = {
        number: next(index for index in range(1, len(begun[number]) + 2) if index not in begun[number])
        for number in complete
    }
    return Observed(
        space=config.domains,
        settings=tuple(each for number, each in settings.items() if number in rows and not isinstance(each, str)),
        complete={number: each for number, each in complete.items() if not isinstance(each, str)},
        values=tuple(values),
        running=tuple(
            (settings[number], seed_of(index))
            for number, index, row in units
            if row.state == TrialState.RUNNING and number in rows
        ),
        next_seeds={number: (index, seed_of(index)) for number, index in following.items()},
        first_seed=seed_of(0),
        tried=frozenset(setting_key(point(row)) for row in search),
    )


def _passed(values: Mapping[str, float], training: float = 1.0) -> float:
    """The images that a unit has passed through the model, with those of its training times ``training``."""
    return values.get(TRAIN_PASSES, 0.0) * training + values.get(ATTACK_PASSES, 0.0)


def _passes(setting: Setting, defence: Defence) -> int:
    """The passes of a training image in an epoch."""
    values = {} if isinstance(setting, str) else setting
    prefix = f"{defence.kind}."
    own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return defence.with_values(own).passes if own else defence.passes
