"""Exports one network of a run: weights, program, model card and benchmark record. The files do not need robustfront.

``robustbench.json`` has the keys of RobustBench's model records (numbers as strings, in percent), and in addition:
claimed, verified (null without an audit), interval (95 %, of the setting), views, seeds, audit_profile, verdict, norm,
setting.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.export import train_command
from analysis.records import TrialRecord
from search.errors import UserError, first_line
from search.evaluation import exported
from search.results.answer import answer_of
from search.results.audits import load_model, read_audit
from search.results.final import settings_of
from search.results.intervals import with_intervals
from search.results.text import parameters_text
from search.runs.folder import Run, command
from search.runs.layout import AUDITS
from search.study import read_records
from search.tracking.models import ExportedNetwork, log_network
from trainables import files
from trainables.metrics import AUDITED, CLEAN, ROBUST, is_accuracy

if TYPE_CHECKING:
    import torch
    from torch import nn

    from trainables.training.replicate import Replicate

WEIGHTS_FILE: Final = "model.safetensors"
PROGRAM_FILE: Final = "model.pt2"
CONFIG_FILE: Final = "config.yaml"
LOADER_FILE: Final = "load.py"
CARD_FILE: Final = "README.md"
BENCHMARK_FILE: Final = "robustbench.json"

_EXAMPLES: Final = 2  # images for tracing the program; with one image, torch would fix the batch size


@dataclass(frozen=True)
class Network:
    """One network of a setting.

    Args:
        setting: The record of the setting that the network belongs to.
        unit: The training that produced the network.
        seed: The network's seed.
        values: The network's own values: those claimed, and ``audited_accuracy`` if it was audited.
        audit: The contents of ``audit.json``; None if the network was not audited.
    """

    setting: TrialRecord
    unit: TrialRecord
    seed: int
    values: Mapping[str, float]
    audit: Mapping[str, Any] | None

    def value(self, name: str) -> float:
        """The network's own value of a measure; for robust accuracy the audited one, if there is one."""
        return self.values.get(AUDITED, self.values[name]) if name == ROBUST else self.values[name]


def export(run: Run, number: str | None, seed: int | None, folder: Path) -> tuple[Network, str | None]:
    """Writes one network of a setting to a folder, and logs it in MLflow.

    Args:
        run: The run.
        number: The number of the setting or baseline; None for the recommended setting.
        seed: The network's seed; None for the network with the median robust accuracy. If the setting was confirmed,
            only its confirming networks are considered, and of these only the audited ones, if there are any.
        folder: The folder for the files; created if it does not exist.

    Returns:
        The network, and what MLflow lacks of it, if anything, as a line of text.

    Raises:
        UserError: There is no such setting, seed or checkpoint, or torch cannot export the model.
    """
    network = chosen(run, number, seed)
    replicate, images = _trained(run, network)
    model = replicate.predictor.eval()
    program, weights = _program(model, images), _weights(model)
    contents: dict[str, bytes | str] = {
        WEIGHTS_FILE: weights,
        PROGRAM_FILE: program,
        CONFIG_FILE: f"# The network's setting: {train_command(network.setting, CONFIG_FILE)}\n{run.config.to_yaml()}",
        LOADER_FILE: Path(exported.__file__).read_text(encoding="utf-8"),
        CARD_FILE: card(run, network),
        BENCHMARK_FILE: json.dumps(benchmark_record(run, network), indent=2) + "\n",
    }
    try:
        for name, content in contents.items():
            files.write(folder / name, content)
    except OSError as error:
        raise UserError(f"--to must be a writable folder, got {folder} ({error.strerror}); choose another") from None
    logged = ExportedNetwork(
        sweep=run.name,
        identity=run.manifest()["id"],
        setting=network.setting.number,
        unit=network.unit,
        seed=network.seed,
        values={name: value for name, value in network.values.items() if is_accuracy(name)},
        dataset=run.manifest()["data"],
        digest=hashlib.sha256(weights).hexdigest(),
    )
    return network, log_network(run.tracking_uri, run.config.tracking.experiment, logged, model, images)


def chosen(run: Run, number: str | None, seed: int | None) -> Network:
    """The network to export; arguments and errors as for `export`."""
    units = read_records(run)
    settings = with_intervals(run, units, settings_of(units, run.config.bounds))
    setting = _setting(run, units, settings, number)
    record = setting.confirmed or setting
    by_number = {unit.number: unit for unit in units}
    networks = [
        Network(
            record,
            by_number[unit],
            own_seed,
            values,
            read_audit(run.folder / AUDITS / unit) if AUDITED in values else None,
        )
        for unit in record.units
        for own_seed, values in zip(by_number[unit].seeds, by_number[unit].replicates, strict=True)
    ]
    if seed is not None:
        networks = [each for each in networks if each.seed == seed]
        if not networks:
            known = ", ".join(map(str, record.seeds))
            raise UserError(f"--seed must be one of trial {setting.number} ({known}), got {seed}; choose one of these")
    aim = ROBUST if ROBUST in run.config.objectives else next(iter(run.config.objectives))
    networks = [each for each in networks if each.audit is not None] or networks
    return sorted(networks, key=lambda each: each.value(aim))[(len(networks) - 1) // 2]


def _setting(run: Run, units: list[TrialRecord], settings: list[TrialRecord], number: str | None) -> TrialRecord:
    complete = {setting.number: setting for setting in settings if setting.state == "complete"}
    if number is None:
        answered = answer_of(run.config, run.folder, units)
        if answered is None or answered.answer.this_network_only:
            raise UserError(
                f"NUMBER must be given if no setting is recommended, got none for {run.name}; "
                f"choose one from `{command('pareto', run.argument)}`"
            )
        number = answered.number(answered.answer.recommended.setting)
    if number not in complete:
        known = ", ".join(complete) or "none yet"
        raise UserError(f"NUMBER must be a complete setting of {run.name} ({known}), got {number}; choose one of these")
    return complete[number]


def _trained(run: Run, network: Network) -> tuple[Replicate, torch.Tensor]:
    """The trained network on the CPU, and a few images for tracing it."""
    from trainables.training.checkpoint import newest

    folder = run.fetched(network.unit.checkpoint or "")
    try:
        path = newest(folder)
    except ValueError as error:
        raise UserError(f"trial {network.unit.number}: {error}") from None
    splits, replicates = load_model(path, run.config, cuda=False)
    replicate = next(each for each in replicates if each.seed == network.seed)
    return replicate, splits["validation"].images[:_EXAMPLES]


def _weights(model: nn.Module) -> bytes:
    from safetensors.torch import save

    return save({name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()})


def _program(model: nn.Module, images: torch.Tensor) -> bytes:
    """The model as a ``torch.export`` program that takes any number of images."""
    import torch

    stored = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("n")},))
            torch.export.save(program, stored)
    except Exception as error:  # torch.export raises errors of many types
        raise UserError(
            f"the model must work with torch.export, got {type(model).__name__} ({first_line(error)}); "
            "change its code accordingly and train again"
        ) from None
    return stored.getvalue()


def benchmark_record(run: Run, network: Network) -> dict[str, Any]:
    """The contents of ``robustbench.json``."""
    config, record, values = run.config, network.setting, network.values
    claimed, verified = values.get(ROBUST), values.get(AUDITED)
    profile = network.audit["profile"] if network.audit is not None else None
    return {
        "link": "",
        "name": f"{run.name}, {_name(network)}",
        "authors": "",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": config.data.name,
        "venue": "",
        "architecture": config.model.title,
        "eps": f"{config.robustness.epsilons[0]:g}",
        "clean_acc": _percent(values.get(CLEAN)),
        "reported": _percent(claimed),
        # Only the reference audit runs AutoAttack.
        "autoattack_acc": _percent(verified if profile == "reference" else None),
        "claimed": claimed,
        "verified": verified,
        "interval": list(record.interval(ROBUST)) if ROBUST in record.objectives else None,
        "views": list(config.robustness.views),
        "seeds": list(record.seeds),
        "seed": network.seed,
        "audit_profile": profile,
        "verdict": network.audit["verdict"] if network.audit is not None else None,
        "norm": config.robustness.norm,
        "eps_convention": config.robustness.eps_convention,
        "setting": {"loss": record.loss, "defence": record.defence, **record.parameters},
    }


def card(run: Run, network: Network) -> str:
    """The model card: a README with front matter for Hugging Face."""
    from ruamel.yaml import YAML

    config, record = run.config, network.setting
    epsilon, norm = config.robustness.epsilons[0], config.robustness.norm
    names = {
        CLEAN: "Clean accuracy",
        ROBUST: f"Robust accuracy within {epsilon:g} ({norm})",
    }
    titles = {name: text for name, text in names.items() if name in record.objectives}
    metrics = [
        {"type": "accuracy", "name": text, "value": round(100 * network.value(name), 2)}
        for name, text in titles.items()
    ]
    front = {
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["adversarial-robustness", "robustfront"],
        # Hugging Face refuses the import path of a user's own function as the name of a data set.
        **({} if ":" in config.data.name else {"datasets": [config.data.name]}),
        "model-index": [
            {
                "name": f"{run.name}-{record.number}",
                "results": [
                    {
                        "task": {"type": "image-classification", "name": "Image classification"},
                        "dataset": {"type": config.data.name, "name": config.data.dataset.title, "split": "validation"},
                        "metrics": metrics,
                    }
                ],
            }
        ],
    }
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.dump(front, text)
    rows = [
        f"| {text} | {100 * network.value(name):.1f} % | {100 * record.objectives[name]:.1f} % "
        f"({100 * record.interval(name).low:.1f} to {100 * record.interval(name).high:.1f}) |"
        for name, text in titles.items()
    ]
    audit = network.audit
    verdict = (
        f"An audit of this network (profile {audit['profile']}) found its robust accuracy {audit['verdict']}."
        if audit is not None
        else "This network has not been audited: its robust accuracy is a claim, based on the sweep's own attacks."
    )
    return CARD.format(
        front=text.getvalue(),
        title=f"{run.name}, {_name(network)}",
        model=config.model.title,
        data=config.data.dataset.title,
        method=record.loss if record.defence == "none" else f"{record.loss} with {record.defence}",
        epochs=config.train.epochs,
        seed=network.seed,
        count=len(record.seeds),
        seeds="new seeds" if record.confirms else "seeds",
        rows="\n".join(rows),
        verdict=verdict,
        attacks=", ".join(attack.label for attack in config.robustness.attacks),
        views=" and ".join(config.robustness.views),
    )


CARD: Final = """---
{front}---

# {title}

{model}, trained with {method} on {data} for {epochs} epochs, seed {seed}.

| | this network | its setting: mean of {count} {seeds} (95 %) |
|---|---|---|
{rows}

Robust accuracy is the share of images that survive {attacks} on {views} logits. {verdict}

```python
from load import load

logits = load()(images)  # (n, channels, height, width), float32 in [0, 1]
```

`model.pt2` needs only torch. `model.safetensors` has the weights, `config.yaml` the configuration of the sweep, and
`robustbench.json` the numbers in the format of RobustBench's records.
"""


def _name(network: Network) -> str:
    record = network.setting
    return f"trial {record.number} ({parameters_text(record.parameters) or record.loss})"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f}"
