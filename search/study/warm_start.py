"""Finished trials of earlier runs of the same problem, which a new run takes over."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis.records import kind_of
from search.config import SweepConfig
from search.errors import UserError
from search.runs.folder import Run
from search.runs.layout import SWEEP_FILE
from search.runs.provenance import first_difference, problem_settings
from search.study.ledger import Ledger, open_ledger
from search.study.samplers import distributions, find
from search.study.trials import (
    EARLIER_AUDIT,
    ORIGIN,
    EarlierTrial,
    candidate_of,
    excesses,
    extension_of,
    measured,
    own_audit,
)


@dataclass
class WarmStart:
    """What earlier runs give: one trial for each setting, in the runs' order and then by number.

    ``left_out`` is how many finished ones are of no use: outside the space, or without one of the objectives.
    """

    trials: list[EarlierTrial] = field(default_factory=list)
    left_out: int = 0


def with_lasting_paths(config: SweepConfig, runs_dir: Path) -> SweepConfig:
    """The configuration with its paths made absolute, because ``resume`` may run elsewhere, and workers do.

    Names of earlier runs stay as they are, and so does ``~``, which differs between machines.
    """
    lasting = []
    for name in config.search.warm_start:
        is_path = not (runs_dir / name / SWEEP_FILE).is_file() and (Path(name) / SWEEP_FILE).is_file()
        lasting.append(str(Path(name).absolute()) if is_path else name)
    search = config.search.model_copy(update={"warm_start": lasting})
    data, root = config.data, config.data.root
    if root is not None and not root.startswith("~"):
        data = replace(data, root=str(Path(root).absolute()))
    return config.model_copy(update={"search": search, "data": data})


def read_warm_start(run: Run, data: Mapping[str, Any]) -> WarmStart:
    """Collects the trials of ``search.warm_start``: complete settings of the search with all their seeds, no baselines.

    Raises:
        UserError: There is no such run, or its problem is another one and ``search.warm_start_force`` is not set.
    """
    config, start, taken = run.config, WarmStart(), set()
    ours = problem_settings(config, data)
    for index, name in enumerate(config.search.warm_start):
        path = f"search.warm_start[{index}]"
        try:
            earlier = Run.open(name, run.folder.parent)
            ledger = open_ledger(earlier)
        except UserError as error:
            raise UserError(str(error).replace("RUN", path, 1)) from None
        with closing(ledger):
            complete = _complete(ledger, earlier, run.folder)
        theirs = problem_settings(earlier.config, earlier.manifest()["data"])
        different = first_difference(ours, theirs)
        if different is not None and not config.search.warm_start_force:
            raise UserError(
                f"{path} must be a run of the same problem, got {name} with {different} {theirs.get(different)} "
                f"(here {ours.get(different)}); leave it out, or set search.warm_start_force: true"
            )
        further = defaultdict[str, list[FrozenTrial]](list)
        for trial in complete.values():
            extension = extension_of(trial)
            if extension is not None:
                further[extension.number].append(trial)
        for number, trial in complete.items():
            if kind_of(number) != "search":
                continue
            point = tuple(sorted(candidate_of(trial).parameters.items()))
            if not _fits(trial, config):
                start.left_out += 1
            elif point not in taken:
                taken.add(point)
                seeds = tuple(new_row(seed, config) for seed in further[number])
                start.trials.append(EarlierTrial(new_row(trial, config), seeds))
    return start


def _complete(ledger: Ledger, earlier: Run, folder: Path) -> dict[str, FrozenTrial]:
    """The earlier run's complete units by number, as they are to be taken over; each keeps its first origin."""
    identity, audits, complete = earlier.manifest()["id"], ledger.audits(), {}
    for number, trial in ledger.trials():
        if trial.state == TrialState.COMPLETE:
            record = ledger.record(number)
            first = {"run": earlier.name, "identity": identity, "number": number} | trial.user_attrs.get(ORIGIN, {})
            paths = {
                name: None if path is None else os.path.relpath(earlier.folder / path, folder)
                for name, path in (("checkpoint", record.checkpoint), ("outcomes", record.outcomes))
            }
            trial.user_attrs[ORIGIN] = first | paths
            if audits.get(number) != own_audit(trial):
                trial.user_attrs[EARLIER_AUDIT] = audits[number]
            complete[number] = trial
    return complete


def _fits(trial: FrozenTrial, config: SweepConfig) -> bool:
    """Whether a trial lies in the space and measured what the search seeks."""
    domains, parameters = config.domains, candidate_of(trial).parameters
    sought = {*config.objectives, *(bound.name for bound in config.bounds)}
    inside = parameters.keys() == domains.keys() and all(
        domains[name].contains(value) for name, value in parameters.items()
    )
    return inside and sought <= measured(trial).keys()


def new_row(trial: FrozenTrial, config: SweepConfig) -> FrozenTrial:
    """A unit that another run has trained, as a row of the ledger of a new sweep."""
    values = measured(trial)
    row = create_trial(
        values=[float(values[name]) for name in config.objectives],
        params=dict(candidate_of(trial).parameters),
        distributions=distributions(config.domains),
        constraints=excesses(config.bounds, values),
        system_attrs=dict(find(config.search.sampler).marks),
        user_attrs=dict(trial.user_attrs),
    )
    row.datetime_start, row.datetime_complete = trial.datetime_start, trial.datetime_complete
    return row
