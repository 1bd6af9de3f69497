"""Trains and attacks one setting in this process, which reproduces an exported setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console

from search.config import SweepConfig, available_cpus, parse_value
from search.errors import UserError
from search.results.metrics import epoch_metrics, unit_results
from search.results.text import value_text
from search.runs.dataset import prepare_dataset
from search.runs.folder import relative
from search.runs.layout import OUTCOMES_FILE, RESULT_FILE, TRAIN_FILE
from trainables import files
from trainables.candidate import Candidate

if TYPE_CHECKING:
    from trainables.trial import CandidateResult


def parse_parameters(config: SweepConfig, parameters: Sequence[str]) -> Candidate:
    """The setting given by ``--param NAME=VALUE`` options.

    Raises:
        UserError: An option is malformed, unknown, missing or outside its limits.
    """
    values = {}
    for parameter in parameters:
        name, separator, text = parameter.partition("=")
        value = parse_value("--param", text)
        if not separator or not isinstance(value, int | float | str | bool):
            raise UserError(
                f"--param must be NAME=VALUE, got {parameter}; "
                f"write for example --param {next(iter(config.domains))}=1.0"
            )
        values[name] = value
    try:
        return config.candidate(values)
    except ValueError as error:
        raise UserError(f"--param {error}") from None


def train_setting(
    config: SweepConfig, parameters: Sequence[str], output: Path | None, runs_dir: Path, console: Console
) -> None:
    """Trains and attacks one setting and writes checkpoint, ``outcomes.npz``, ``result.json`` and ``train.yaml``.

    The folder is ``output``, by default one under ``runs_dir`` named after the setting. An interrupted training there
    is continued. The configuration's search is ignored.

    Raises:
        UserError: The setting is not legal, or the data is missing.
    """
    setting = parse_parameters(config, parameters)
    prepare_dataset(config.data, test=False, problem=config.problem)
    values = (
        f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}" for key, value in setting.parameters.items()
    )
    folder = output or runs_dir / "trained" / "-".join([config.name, config.loss.title, *values])

    import torch

    from trainables.trial import CandidateResult, run_candidate

    torch.set_num_threads(min(config.resources.cpus_per_trial, available_cpus()))
    device = torch.device("cuda" if config.resources.gpus_per_trial > 0 and torch.cuda.is_available() else "cpu")
    files.write(folder / TRAIN_FILE, config.to_yaml())
    console.print(f"{setting} on {config.data.dataset.title}, {config.model.title}, {device}")
    for result in run_candidate(config.problem, setting, device=device, checkpoints=folder):
        if isinstance(result, CandidateResult):
            _finish(config, setting, result, folder, console)
        else:
            metrics = epoch_metrics(result)
            console.print(
                f"epoch {result.epoch:>3}/{config.train.epochs}  loss {metrics['train_loss']:.4f}  "
                f"validation loss {metrics['validation_loss']:.4f}  "
                f"accuracy {100 * metrics['validation_accuracy']:.1f} %  {result.seconds:.1f} s",
            )


def _finish(config: SweepConfig, setting: Candidate, result: CandidateResult, folder: Path, console: Console) -> None:
    """Writes and prints the numbers, the objectives first."""
    result.outcomes.save(folder / OUTCOMES_FILE)
    units = unit_results(result, range(config.train.replicates))
    about = {"loss": setting.loss, "defence": setting.defence, **setting.parameters}
    document = {"setting": about, "units": [unit.to_json() for unit in units]}
    files.write(folder / RESULT_FILE, json.dumps(document, indent=2) + "\n")
    means = {name: fmean(unit.values[name] for unit in units) for name in units[0].values}
    for name in sorted(means, key=lambda name: name not in config.objectives):
        label = name if name in config.objectives else f"  {name}"
        console.print(f"{label:<24}{value_text(name, means[name], digits=2)}")
    console.print(f"Written to {relative(folder.absolute())}", soft_wrap=True)
