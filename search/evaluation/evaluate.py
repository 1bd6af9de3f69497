"""A trained model attacked again: any attacks at any radii, as a table and as curves of accuracy over the radius."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.statistics import seeds_and_images_interval, wilson_interval
from search.config import SweepConfig, available_cpus, parse, parse_value
from search.errors import UserError
from search.evaluation.progress import attack
from search.evaluation.test_split import Frozen, check_data, freeze, open_and_announce, setting_of
from search.results.audits import load_model
from search.results.text import radius_title
from search.runs.checkpoints import Checkpoint
from search.runs.folder import Run, relative
from search.runs.layout import OUTCOMES_FILE, RESULT_FILE
from search.study import read_records
from trainables import files
from trainables.metrics import ROBUST

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from trainables.robustness import Outcomes

SplitName = Literal["validation", "test"]


def configured(
    config: SweepConfig, attacks: Sequence[str], epsilons: str | None, overrides: Sequence[str]
) -> SweepConfig:
    """The configuration with other attacks and radii. The search's objectives no longer matter.

    Attacks are names (``autoattack``) or mappings (``{name: apgd, loss: dlr}``), radii ``0.5,1,1.5``; without them the
    configuration's own stay. The overrides are ``KEY=VALUE``, as for a sweep.

    Raises:
        UserError: A value is not legal.
    """
    document = config.to_document()
    del document["objectives"], document["constraints"], document["search"]["halving"]
    if attacks:
        named = [parse_value("--attack", text) for text in attacks]
        document["robustness"]["attacks"] = [{"name": value} if isinstance(value, str) else value for value in named]
    if epsilons is not None:
        document["robustness"]["epsilon"] = parse_value("--epsilon", f"[{epsilons}]")
    return parse(document, overrides)


def evaluate_checkpoint(
    checkpoint: Checkpoint, config: SweepConfig, split: SplitName, output: Path | None, typed: str, console: Console
) -> None:
    """Attacks the model, prints the table, and writes the table, the curves and the outcomes.

    They are written to ``output``, by default next to the checkpoint. Opening the test split is recorded in the
    checkpoint's home, with the command line as ``typed``.

    Raises:
        UserError: The data is missing, or the checkpoint is unreadable or of another model. For the test split also:
            the data is not that of the training, or the training has not ended.
    """
    run = Run(checkpoint.home, checkpoint.config)
    if split == "test":
        _check_settings(checkpoint, config)
        check_data(run, config.data, test=False)

    import torch

    torch.set_num_threads(available_cpus())
    # Exactly one file is tested: the one whose hash is recorded.
    path = checkpoint.newest if split == "test" else checkpoint.path
    splits, replicates = load_model(path, config)
    attacked, robustness, counted = splits["validation"], config.robustness, {}
    device, epoch = attacked.images.device, replicates[0].epoch
    if split == "test":
        frozen = _frozen(checkpoint, path, epoch, config.train.epochs)
        opened = open_and_announce(run, config, [frozen], device, typed, console)
        attacked, robustness, counted = opened.split, opened.robustness, {"openings": opened.times}
    model = f"{relative(checkpoint.path.absolute())}: {config.model.title} on {config.data.dataset.title}"
    title = f"{model}, {robustness.images} {split} images"
    console.print(f"{title}, {device.type}", soft_wrap=True)
    began = time.monotonic()
    try:
        outcomes = attack(replicates, attacked, robustness, console)
    except ValueError as error:
        raise UserError(f"robustness.{error}") from None
    about = {
        "checkpoint": str(checkpoint.path),
        "epoch": epoch,
        "split": split,
        **counted,
        "images": robustness.images,
        "norm": robustness.norm,
        "eps_convention": robustness.eps_convention,
        "views": list(robustness.views),
        "seeds": list(outcomes.seeds),
        "seconds": time.monotonic() - began,
    }
    place = checkpoint.place("evaluations")
    folder = output or (place if split == "validation" else place.with_name(f"{place.name}-test"))
    frame, axis = accuracy_frame(outcomes), radius_title(robustness)
    _write(folder, outcomes, about, frame, title, axis)
    checkpoint.share(folder)
    console.print(accuracy_table(frame, axis))
    console.print(f"Written to {relative(folder.absolute())}", soft_wrap=True)


def _check_settings(checkpoint: Checkpoint, config: SweepConfig) -> None:
    """Refuses another split of the data: its test images may be training images of the model."""
    now, then = (replace(each.data, root=None).to_document() for each in (config, checkpoint.config))
    for name, value in now.items():
        if value != then[name]:
            raise UserError(
                f"data.{name} must be that of the training ({then[name]}) for the test split, got {value}; leave it out"
            )


def _frozen(checkpoint: Checkpoint, path: Path, epoch: int, epochs: int) -> Frozen:
    """The file to be tested, with its setting if a run's ledger or ``result.json`` has it."""
    if epoch < epochs:
        raise UserError(
            f"CHECKPOINT must be of a finished training ({epochs} epochs) for the test split, "
            f"got epoch {epoch} in {relative(path.absolute())}; train it to the end first"
        )
    setting, result = None, checkpoint.home / RESULT_FILE
    if checkpoint.number is not None:
        records = read_records(Run(checkpoint.home, checkpoint.config))
        setting = next((setting_of(record) for record in records if record.number == checkpoint.number), None)
    elif result.is_file():
        setting = json.loads(result.read_text(encoding="utf-8"))["setting"]
    return freeze(path, setting, checkpoint.home)


def _write(
    folder: Path, outcomes: Outcomes, about: Mapping[str, Any], frame: pd.DataFrame, title: str, axis: str
) -> None:
    """Writes the outcomes, ``evaluation.json`` and the curves."""
    from analysis.figures.curves import draw_epsilon_curves

    outcomes.save(folder / OUTCOMES_FILE)
    document = {**about, "accuracies": frame.to_dict("records")}
    files.write(folder / "evaluation.json", json.dumps(document, indent=2) + "\n")
    draw_epsilon_curves(frame, folder, title=title, axis=axis)


def accuracy_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Accuracies at every radius: of each attack on its first view and at worst over its views, and of the worst case.

    Returns:
        Columns ``measure`` (``ATTACK/VIEW``, ``ATTACK/worst``, ``robust_accuracy``), ``epsilon`` (0 for clean
        images), and ``accuracy``, ``low`` and ``high`` as fractions of the attacked images in [0, 1]; in the order of
        the radii.
    """
    import numpy as np
    import pandas as pd

    clean = outcomes.clean[:, : outcomes.kept.shape[-1]]
    measures: dict[str, npt.NDArray[np.bool_]] = {
        name: outcomes.kept[:, a, v] for a in range(len(outcomes.attacks)) for name, v in outcomes.shown(a)
    }
    measures[ROBUST] = np.asarray(outcomes.kept.all(axis=(1, 2)))
    rows = []
    for measure, kept in measures.items():
        for epsilon, right in [(0.0, clean), *zip(outcomes.epsilons, np.moveaxis(kept, 1, 0), strict=True)]:
            # Over several seeds and the images, or over the images of one network.
            low, high = (
                seeds_and_images_interval(right)
                if len(right) > 1
                else wilson_interval(int(right.sum()), right.shape[1])
            )
            accuracy = float(right.mean())
            rows.append({"measure": measure, "epsilon": epsilon, "accuracy": accuracy, "low": low, "high": high})
    return pd.DataFrame(rows).sort_values("epsilon", kind="stable").reset_index(drop=True)


def accuracy_table(frame: pd.DataFrame, axis: str) -> Table:
    """Accuracies in percent: one row per measure, one column per radius; the worst case last, with its interval."""
    from analysis.figures.style import measure_label

    table = Table(title=f"Accuracy in % by {axis}", box=SIMPLE_HEAD, min_width=48, title_justify="left")
    table.add_column("attack, logits it sees", no_wrap=True)
    for epsilon in frame["epsilon"].unique():
        table.add_column("clean" if epsilon == 0 else f"{epsilon:g}", justify="right", no_wrap=True)

    def percents(accuracies: pd.Series[float]) -> list[str]:
        return [f"{100 * accuracy:.1f}" for accuracy in accuracies]

    is_worst = frame["measure"] == ROBUST
    for measure, rows in frame[~is_worst].groupby("measure", sort=False):
        table.add_row(measure_label(str(measure)), *percents(rows["accuracy"]))
    table.add_section()
    for label, column, style in (
        ("worst case", "accuracy", "bold"),
        ("  from", "low", "dim"),
        ("  to (95 %)", "high", "dim"),
    ):
        table.add_row(label, *percents(frame[is_worst][column]), style=style)
    return table
