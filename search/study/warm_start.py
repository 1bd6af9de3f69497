"""Finished trials of earlier runs of the same problem, which a new run takes over."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from analysis.records import kind_of
from search.config import SweepConfig
from search.config.fingerprint import first_difference, problem_settings
from search.errors import UserError
from search.runs.folder import SWEEP_FILE, Run
from search.study.ledger import Ledger, open_ledger
from search.study.trials import EarlierTrial, Origin, extension_of


@dataclass
class WarmStart:
    """What earlier runs give.

    Args:
        trials: One for each setting, in the runs' order and then by number.
        left_out: How many finished trials are of no use: outside the space, or without one of the objectives.
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

    Args:
        run: The new run.
        data: What its manifest says about the data set.

    Raises:
        UserError: There is no such run, or its problem is another one and ``search.warm_start_force`` is not set.
    """
    config, start = run.config, WarmStart()
    ours, taken = problem_settings(config, data), set()
    for index, name in enumerate(config.search.warm_start):
        path = f"search.warm_start[{index}]"
        try:
            earlier = Run.open(name, run.folder.parent)
            ledger = open_ledger(earlier)
        except UserError as error:
            raise UserError(str(error).replace("RUN", path, 1)) from None
        with closing(ledger):
            trials = _finished(ledger, earlier, run.folder)
        theirs = problem_settings(earlier.config, earlier.manifest()["data"])
        different = first_difference(ours, theirs)
        if different is not None and not config.search.warm_start_force:
            raise UserError(
                f"{path} must be a run of the same problem, got {name} with {different} {theirs.get(different)} "
                f"(here {ours.get(different)}); leave it out, or set search.warm_start_force: true"
            )
        for trial in trials:
            point = tuple(sorted(trial.parameters.items()))
            if not trial.fits(config):
                start.left_out += 1
            elif point not in taken:
                taken.add(point)
                start.trials.append(trial)
    return start


def _finished(ledger: Ledger, earlier: Run, folder: Path) -> list[EarlierTrial]:
    """The earlier run's complete settings of the search, each with its other complete units."""
    identity, audits = earlier.manifest()["id"], ledger.audits()
    complete = [(number, trial) for number, trial in ledger.trials() if trial.state == TrialState.COMPLETE]

    def taken(number: str, trial: FrozenTrial, extensions: Sequence[EarlierTrial] = ()) -> EarlierTrial:
        record = ledger.record(number)
        checkpoint, outcomes = (
            None if path is None else os.path.relpath(earlier.folder / path, folder)
            for path in (record.checkpoint, record.outcomes)
        )
        origin = Origin(earlier.name, identity, number, checkpoint, outcomes)
        return EarlierTrial.of(trial, origin, audits.get(number), extensions)

    further = defaultdict[str, list[EarlierTrial]](list)
    for number, trial in complete:
        extension = extension_of(trial)
        if extension is not None:
            further[extension.number].append(taken(number, trial))
    return [taken(number, trial, further[number]) for number, trial in complete if kind_of(number) == "search"]
