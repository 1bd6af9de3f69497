"""Finished trials of earlier runs of the same problem, to be taken over by a new one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search.config.fingerprint import first_difference, problem_settings
from search.config.schema import SweepConfig
from search.errors import UserError
from search.runs.folder import SWEEP_FILE, Run
from search.study.ledger import EarlierTrial, Ledger, Origin, open_storage


@dataclass
class WarmStart:
    """What earlier runs give.

    Args:
        trials: One of each setting, in the runs' order and then by number.
        left_out: Finished trials that are of no use: outside the space, or without one of the objectives.
    """

    trials: list[EarlierTrial] = field(default_factory=list)
    left_out: int = 0


def with_lasting_paths(config: SweepConfig, runs_dir: Path) -> SweepConfig:
    """The same with its paths made absolute: ``resume`` may run elsewhere, and workers do.

    Names of earlier runs stay as they are, and so does ``~``, which every machine has its own of.
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
    """Collects the trials of ``search.warm_start``: complete ones of the search, never baselines or further replicates.

    Args:
        run: The new run.
        data: What its manifest says of the data set.

    Raises:
        UserError: There is no such run, or it is of another problem and ``search.warm_start_force`` is not set.
    """
    config, found = run.config, WarmStart()
    ours, taken = problem_settings(config, data), set()
    for index, name in enumerate(config.search.warm_start):
        path = f"search.warm_start[{index}]"
        try:
            earlier = Run.open(name, run.folder.parent)
            ledger = Ledger(open_storage(earlier.storage_url, create=False), earlier.config, "read")
        except UserError as error:
            raise UserError(str(error).replace("RUN", path, 1)) from None
        theirs = problem_settings(earlier.config, earlier.manifest()["data"])
        different = first_difference(ours, theirs)
        if different is not None and not config.search.warm_start_force:
            raise UserError(
                f"{path} must be a run of the same problem, got {name} with {different} {theirs.get(different)} "
                f"(here {ours.get(different)}); leave it out, or set search.warm_start_force: true"
            )
        with closing(ledger):
            trials = _finished(ledger, earlier, run.folder)
        for trial in trials:
            point = tuple(sorted(trial.parameters.items()))
            if not trial.fits(config):
                found.left_out += 1
            elif point not in taken:
                taken.add(point)
                found.trials.append(trial)
    return found


def _finished(ledger: Ledger, earlier: Run, folder: Path) -> list[EarlierTrial]:
    identity = earlier.manifest()["id"]
    trials = []
    for number, trial in ledger.trials():
        record = ledger.record(number)
        if record.kind != "search" or trial.state != TrialState.COMPLETE:
            continue
        kept = {
            name: None if path is None else os.path.relpath(earlier.folder / path, folder)
            for name, path in (("checkpoint", record.checkpoint), ("outcomes", record.outcomes))
        }
        trials.append(EarlierTrial.of(trial, Origin(earlier.name, identity, number, **kept)))
    return trials
