"""How commands open the test split: every opening is announced and recorded in the run's folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from search.errors import UserError
from search.runs.checkpoints import RESULT_FILE, Checkpoint
from search.runs.folder import Run, relative
from search.study import read_records
from trainables.data.partition.test_openings import OPENINGS_FILE as OPENINGS_FILE
from trainables.data.partition.test_openings import Frozen as Frozen
from trainables.data.partition.test_openings import Opening, open_test_split, read_openings
from trainables.settings import DataSettings, RobustnessSettings

if TYPE_CHECKING:
    import torch

    from trainables.data.splits import Split


class Opened(NamedTuple):
    """The opened test split.

    Args:
        split: Its images and labels.
        when: When it was opened (ISO 8601, UTC).
        times: How often it has been opened for its folder, this time included.
    """

    split: Split
    when: str
    times: int


def open_and_announce(
    data: DataSettings,
    models: Sequence[Frozen],
    robustness: RobustnessSettings,
    folder: Path,
    device: torch.device,
    typed: str,
    console: Console,
) -> Opened:
    """Opens the test split: records the opening, reads the images, and prints one line.

    Args:
        data: The data set and its split.
        models: The models to evaluate.
        robustness: The attacks.
        folder: The folder of the run or the single training; the opening is recorded there.
        device: The device for the images.
        typed: The command line.
        console: Where the line is printed.

    Raises:
        UserError: The opening cannot be recorded; the split stays closed.
    """
    opening, path = Opening(command=typed, models=models, robustness=robustness), relative(folder / OPENINGS_FILE)
    try:
        split = open_test_split(data, opening, folder, device)
    except OSError as error:
        raise UserError(
            f"{path} must be writable before the test split is opened, got {error.strerror or error}; change that"
        ) from None
    opened = Opened(split, opening.when, openings(folder))
    console.print(
        f"The test split is opened for the {ordinal(opened.times)} time (recorded in {path})",
        highlight=False,
        soft_wrap=True,
    )
    return opened


def openings(folder: Path) -> int:
    """How often the test split has been opened for the run or single training in a folder."""
    return len(read_openings(folder))


def freeze(checkpoint: Path, setting: Mapping[str, Any] | None, folder: Path) -> Frozen:
    """A checkpoint's file with its current hash.

    Args:
        checkpoint: The file.
        setting: The loss and its parameters, if known.
        folder: Where the opening will be recorded; the file is named by its path from there.
    """
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Frozen(checkpoint=os.path.relpath(checkpoint, folder), sha256=digest, setting=setting)


def setting_of(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """Loss, defence and parameters; None if neither a run's ledger nor ``result.json`` has them."""
    if checkpoint.number is not None:
        records = {record.number: record for record in read_records(Run(checkpoint.home, checkpoint.config))}
        record = records.get(checkpoint.number)
        return None if record is None else {"loss": record.loss, "defence": record.defence, **record.parameters}
    result = checkpoint.home / RESULT_FILE
    return json.loads(result.read_text(encoding="utf-8"))["setting"] if result.is_file() else None


def fitted(robustness: RobustnessSettings, images: int) -> RobustnessSettings:
    """The same attacks on at most ``images`` test images."""
    return replace(robustness, images=min(robustness.images, images))


def check_same_data(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Refuses a data set that has changed: some of its test images may have been training images.

    Args:
        now: The data set, as from ``prepare_dataset``.
        then: The data set in the run's manifest.

    Raises:
        UserError: Images or sizes differ.
    """
    for name in ("name", "sha256", "test_sha256", "sizes"):
        if now[name] != then[name]:
            raise UserError(
                f"data must be that of the training for the test split, got another {name} ({now[name]}, "
                f"then {then[name]}); restore it"
            )


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, ..."""
    teens = 10 <= number % 100 < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
