"""A trained model attacked again: any attacks at any radii, as a table and as curves of accuracy over the radius."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.statistics import Interval, student_interval, wilson_interval
from search.config import SweepConfig, available_cpus, parse_value, replaced
from search.errors import UserError
from search.evaluation.openings import OPENINGS_FILE, check_same_data, fitted, freeze, open_and_announce, setting_of
from search.evaluation.progress_bar import progress_bar
from search.results.titles import radius_title
from search.runs.checkpoints import Checkpoint
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run, relative
from trainables import files as atomic
from trainables.metrics import ROBUST
from trainables.settings import RobustnessSettings

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

    Args:
        config: The configuration that the model was trained with.
        attacks: Names (``autoattack``) or mappings (``{name: apgd, loss: dlr}``); empty for the configuration's own.
        epsilons: ``0.5,1,1.5``; None for the configuration's own.
        overrides: ``KEY=VALUE``, as for a sweep.

    Raises:
        UserError: A value is not legal.
    """
    values: dict[str, Any] = {}
    if attacks:
        named = [parse_value("--attack", text) for text in attacks]
        values["robustness.attacks"] = [{"name": value} if isinstance(value, str) else value for value in named]
    if epsilons is not None:
        values["robustness.epsilon"] = parse_value("--epsilon", f"[{epsilons}]")
    forgotten = {"objectives": None, "constraints": None, "search.halving": None}
    return replaced(config, {**forgotten, **values}, overrides)


def evaluate_checkpoint(
    checkpoint: Checkpoint, config: SweepConfig, split: SplitName, output: Path | None, typed: str, console: Console
) -> None:
    """Attacks the model, prints the table, and writes the table, the curves and the outcomes.

    Args:
        checkpoint: The model.
        config: Attacks, radii, views and images; data and model as in its training.
        split: Which images. Opening the test split is recorded in the checkpoint's home.
        output: Folder to write to; None for a folder next to the checkpoint.
        typed: The command line.
        console: Where progress and the table are printed.

    Raises:
        UserError: The data is missing, or the checkpoint is unreadable or of another model. For the test split also:
            the data is not that of the training, or the training has not ended.
    """
    data = prepare_dataset(config.data, test=split == "test")
    if split == "test":
        _check_data(checkpoint, config, data)

    import torch

    from trainables.data.splits import load_splits
    from trainables.robustness.evaluate import evaluate
    from trainables.training.checkpoint import load_trained, newest

    torch.set_num_threads(available_cpus())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    splits = load_splits(config.data, device)
    try:
        # Exactly one file is tested: the one whose hash is recorded.
        path = newest(checkpoint.path) if split == "test" else checkpoint.path
        replicates = load_trained(path, config.problem, splits)
    except ValueError as error:
        raise UserError(f"CHECKPOINT: {error}") from None
    robustness, openings = config.robustness, None
    if split == "test":
        if replicates[0].epoch < config.train.epochs:
            raise UserError(
                f"CHECKPOINT must be of a finished training ({config.train.epochs} epochs) for the test split, "
                f"got epoch {replicates[0].epoch} in {relative(path.absolute())}; train it to the end first"
            )
        robustness = fitted(robustness, data["sizes"]["test"])
        frozen = freeze(path, setting_of(checkpoint), checkpoint.home)
        opened = open_and_announce(config.data, [frozen], robustness, checkpoint.home, device, typed, console)
        splits["test"], openings = opened.split, opened.times
        checkpoint.share(checkpoint.home / OPENINGS_FILE)
    title = f"{relative(checkpoint.path.absolute())}: {config.model.title} on {config.data.dataset.title}"
    console.print(f"{title}, {robustness.images} {split} images, {device}", highlight=False, soft_wrap=True)
    began = time.monotonic()
    with AttackProgress(console, attack_names(robustness, len(replicates))) as progress:
        try:
            outcomes = evaluate(
                [replicate.predictor for replicate in replicates],
                splits[split],
                robustness,
                [replicate.seed for replicate in replicates],
                progress.report,
            )
        except ValueError as error:
            raise UserError(f"robustness.{error}") from None
    about = {
        "checkpoint": str(checkpoint.path),
        "epoch": replicates[0].epoch,
        "split": split,
        **({} if openings is None else {"openings": openings}),
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
    _write(folder, outcomes, about, frame, title=f"{title}, {robustness.images} {split} images", axis=axis)
    checkpoint.share(folder)
    console.print(accuracy_table(frame, axis))
    console.print(f"Written to {relative(folder.absolute())}", highlight=False, soft_wrap=True)


def _write(
    folder: Path, outcomes: Outcomes, about: Mapping[str, Any], frame: pd.DataFrame, *, title: str, axis: str
) -> None:
    """Writes the outcomes, ``evaluation.json`` and the curves."""
    from analysis.figures.curves import draw_epsilon_curves

    folder.mkdir(parents=True, exist_ok=True)
    outcomes.save(folder / "outcomes.npz")
    document = {**about, "accuracies": frame.to_dict("records")}
    atomic.write(folder / "evaluation.json", json.dumps(document, indent=2) + os.linesep)
    draw_epsilon_curves(frame, folder, title=title, axis=axis)


def _check_data(checkpoint: Checkpoint, config: SweepConfig, data: Mapping[str, Any]) -> None:
    """Refuses a test split that may contain training images of the model."""
    now, then = (replace(each.data, root=None).to_document() for each in (config, checkpoint.config))
    for name, value in now.items():
        if value != then[name]:
            raise UserError(
                f"data.{name} must be that of the training ({then[name]}) for the test split, got {value}; leave it out"
            )
    run = Run(checkpoint.home, checkpoint.config)
    if run.has_manifest:
        check_same_data(data, run.manifest()["data"])


def accuracy_frame(outcomes: Outcomes) -> pd.DataFrame:
    """Accuracies at every radius: of each attack on its first view and at worst over its views, and of the worst case.

    Returns:
        Columns ``measure`` (``ATTACK/VIEW``, ``ATTACK/worst``, ``robust_accuracy``), ``epsilon`` (0 for clean
        images), and ``accuracy``, ``low`` and ``high`` as fractions of the attacked images in [0, 1].
    """
    import numpy as np
    import pandas as pd

    images = outcomes.kept.shape[-1]
    clean = outcomes.clean[:, :images]
    measures: dict[str, npt.NDArray[np.bool_]] = {
        name: outcomes.kept[:, a, v] for a in range(len(outcomes.attacks)) for name, v in outcomes.shown(a)
    }
    measures[ROBUST] = np.asarray(outcomes.kept.all(axis=(1, 2)))
    rows = []
    for measure, kept in measures.items():
        for epsilon, right in [(0.0, clean), *zip(outcomes.epsilons, np.moveaxis(kept, 1, 0), strict=True)]:
            low, high = _interval(right)
            accuracy = float(right.mean())
            rows.append({"measure": measure, "epsilon": epsilon, "accuracy": accuracy, "low": low, "high": high})
    return pd.DataFrame(rows).sort_values("epsilon", kind="stable").reset_index(drop=True)


def _interval(right: npt.NDArray[np.bool_]) -> Interval:
    """The 95 % interval of an accuracy from outcomes (R, n): over several replicates, or over the images of one."""
    if len(right) > 1:
        low, high = student_interval(right.mean(axis=1))
        return Interval(max(low, 0.0), min(high, 1.0))
    return wilson_interval(int(right.sum()), right.shape[1])


def accuracy_table(frame: pd.DataFrame, axis: str) -> Table:
    """Accuracies in percent: one row per measure, one column per radius; the worst case last, with its interval."""
    from analysis.figures.style import measure_label

    table = Table(title=f"Accuracy in % by {axis}", box=SIMPLE_HEAD, min_width=48)
    table.title_justify = "left"
    table.add_column("attack, logits it sees", no_wrap=True)
    for epsilon in sorted(set(frame["epsilon"])):
        table.add_column("clean" if epsilon == 0 else f"{epsilon:g}", justify="right", no_wrap=True)
    for measure in dict.fromkeys(frame["measure"]):
        if measure != ROBUST:
            rows = frame[frame["measure"] == measure].sort_values("epsilon")
            table.add_row(measure_label(measure), *(f"{100 * accuracy:.1f}" for accuracy in rows["accuracy"]))
    table.add_section()
    worst = frame[frame["measure"] == ROBUST].sort_values("epsilon")
    table.add_row("worst case", *(f"{100 * value:.1f}" for value in worst["accuracy"]), style="bold")
    table.add_row("  from", *(f"{100 * value:.1f}" for value in worst["low"]), style="dim")
    table.add_row("  to (95 %)", *(f"{100 * value:.1f}" for value in worst["high"]), style="dim")
    return table


def attack_names(robustness: RobustnessSettings, replicates: int) -> list[str]:
    """The name of each run of an attack for ``AttackProgress``, in the order of ``evaluate``."""
    names = [f"{attack.label}, {view}" for attack in robustness.attacks for view in robustness.views_of(attack)]
    return [f"{name} (replicate {r})" if replicates > 1 else name for r in range(replicates) for name in names]


class AttackProgress:
    """Shows which attack runs on which view, and how long the rest takes.

    Args:
        console: Where to show it: a bar on a terminal, elsewhere one line per run.
        names: The name of each run of an attack.
        lines: Whether to print lines if the console is no terminal.
    """

    def __init__(self, console: Console, names: Sequence[str], *, lines: bool = True) -> None:
        self._names, self._lines = names, lines
        self._console, self._printed = console, 0
        self._bar = progress_bar(console, 28)
        self._task = self._bar.add_task(self._names[0], total=len(self._names))

    def __enter__(self) -> AttackProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, done: float, total: int) -> None:
        """Updates the number of finished runs."""
        self._bar.update(self._task, completed=done, description=self._names[min(int(done), total - 1)])
        if self._lines and not self._console.is_terminal and int(done) > self._printed:
            self._console.print(f"[{int(done)}/{total}] {self._names[int(done) - 1]}", highlight=False, markup=False)
            self._printed = int(done)
