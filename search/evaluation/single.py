"""One setting trained and attacked in this process: how an exported setting is reproduced."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from search.config.schema import SweepConfig, available_cpus
from search.errors import UserError
from search.results.metrics import epoch_metrics, measured, result_values
from search.runs.checkpoints import RESULT_FILE, TRAIN_FILE
from search.runs.dataset import prepare_dataset
from search.runs.folder import relative
from search.sweep.progress import value_text
from trainables import files as atomic
from trainables.candidate import LOSSES, Candidate


def parse_parameters(config: SweepConfig, parameters: Sequence[str]) -> Candidate:
    """The setting that ``--param NAME=VALUE`` options name.

    Raises:
        UserError: One is malformed, unknown, missing or outside its limits.
    """
    values = {}
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        try:
            values[name] = float(text)
        except ValueError:
            raise UserError(
                f"--param must be NAME=NUMBER, got {parameter}; write for example --param "
                f"{next(iter(LOSSES[config.loss.name].parameters), 's')}=1.0"
            ) from None
    try:
        return Candidate(config.loss.name, values)
    except ValueError as error:
        raise UserError(f"--param {error}") from None


def train_setting(
    config: SweepConfig, parameters: Sequence[str], output: Path | None, runs_dir: Path, console: Console
) -> None:
    """Trains and attacks one setting and writes checkpoint, ``outcomes.npz``, ``result.json`` and ``train.yaml``.

    Args:
        config: Data, model, training and attacks; its search is not looked at.
        parameters: ``NAME=VALUE`` of each parameter of the loss.
        output: Folder to write to; one named after the setting under ``runs_dir`` where it is None. A training that was
            cut off there goes on.
        runs_dir: Folder of the runs.
        console: Where epochs and results are shown.

    Raises:
        UserError: The setting is not legal, the data is missing, or the folder holds another training.
    """
    setting = parse_parameters(config, parameters)
    prepare_dataset(config.data, test=False)
    name = "-".join([config.name, config.loss.name, *(f"{key}{value:g}" for key, value in setting.parameters.items())])
    folder = output or runs_dir / "trained" / name

    import torch

    from trainables.trial import SettingResult, run_setting

    torch.set_num_threads(min(config.resources.cpus_per_trial, available_cpus()))
    device = torch.device("cuda" if config.resources.gpus_per_trial > 0 and torch.cuda.is_available() else "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / TRAIN_FILE, config.to_yaml())
    console.print(f"{setting} on {config.data.name}, {config.model}, {device}", highlight=False)
    for result in run_setting(config.problem, setting, device=device, checkpoints=folder):
        if isinstance(result, SettingResult):
            result.outcomes.save(folder / "outcomes.npz")
            values = {"setting": {"loss": setting.loss, **setting.parameters}, **result_values(result)}
            atomic.write(folder / RESULT_FILE, json.dumps(values, indent=2) + os.linesep)
            found = measured(values)
            for objective in config.objectives:
                console.print(f"{objective:<24}{value_text(objective, found[objective], digits=2)}", highlight=False)
            for name in filter(lambda name: name not in config.objectives, found):
                console.print(f"  {name:<22}{value_text(name, found[name], digits=2)}", highlight=False)
            console.print(f"Written to {relative(folder.absolute())}", highlight=False, soft_wrap=True)
        else:
            metrics = epoch_metrics(result)
            console.print(
                f"epoch {result.epoch:>3}/{config.train.epochs}  loss {metrics['train_loss']:.4f}  "
                f"validation loss {metrics['validation_loss']:.4f}  "
                f"accuracy {100 * metrics['validation_accuracy']:.1f} %  {result.seconds:.1f} s",
                highlight=False,
            )
