"""How commands open the test split: every opening is recorded in the run's folder first, then announced.

The data set must be that of the training. The validation and training images are compared before the opening, the test
images after it, because they must not even be hashed before.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from analysis.records import TrialRecord
from search.errors import UserError
from search.runs.checkpoints import RESULT_FILE, Checkpoint
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run, relative
from search.study.reading import read_records
from trainables.data.partition.test_openings import OPENINGS_FILE, Frozen, Opening, open_test_split, read_openings
from trainables.settings import DataSettings, RobustnessSettings

if TYPE_CHECKING:
    import torch

    from trainables.data.splits import Split

__all__ = [
    "Frozen",
    "check_data",
    "freeze",
    "open_and_announce",
    "ordinal",
    "read_openings",
    "setting_of",
    "setting_of_checkpoint",
]


class Opened(NamedTuple):
    """The opened test split.

    Args:
        split: Its images and labels.
        robustness: The attacks, on no more images than there are.
        when: When it was opened (ISO 8601, UTC).
        times: How often it has been opened for its folder, this time included.
    """

    split: Split
    robustness: RobustnessSettings
    when: str
    times: int


def open_and_announce(
    run: Run,
    data: DataSettings,
    models: Sequence[Frozen],
    robustness: RobustnessSettings,
    device: torch.device,
    typed: str,
    console: Console,
) -> Opened:
    """Opens the test split: records the opening, reads the images, prints one line, and compares the images.

    Args:
        run: The run, or the single training; the opening is recorded in its folder.
        data: The data set and its split.
        models: The models to evaluate.
        robustness: The attacks.
        device: The device for the images.
        typed: The command line.
        console: Where the line is printed.

    Raises:
        UserError: The opening cannot be recorded, and the split stays closed; or the split is not that of the training.
    """
    opening, path = Opening(command=typed, models=models, robustness=robustness), run.folder / OPENINGS_FILE
    try:
        split = open_test_split(data, opening, run.folder, device)
    except OSError as error:
        raise UserError(
            f"{relative(path)} must be writable before the test split is opened, "
            f"got {error.strerror or error}; change that"
        ) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    times = len(read_openings(run.folder))
    console.print(
        f"The test split is opened for the {ordinal(times)} time (recorded in {relative(path)})",
        highlight=False,
        soft_wrap=True,
    )
    run.share(path)
    check_data(run, data, test=True)
    images = min(robustness.images, len(split.images))
    return Opened(split, replace(robustness, images=images), opening.when, times)


def check_data(run: Run, data: DataSettings, *, test: bool) -> None:
    """Refuses a data set that has changed since the training: test images may have been training images.

    Args:
        run: The run. A single training has no manifest, and nothing to compare with.
        data: The data set and its split.
        test: Whether test images are compared too.

    Raises:
        UserError: Images or sizes differ, or the data is missing.
    """
    if not run.has_manifest:
        return
    now, then = prepare_dataset(data, test=test), run.manifest()["data"]
    known = {**then, "sizes": {split: then["sizes"][split] for split in now["sizes"]}}
    for name in ("name", "sha256", "test_sha256", "sizes"):
        if name in now and now[name] != known[name]:
            raise UserError(
                f"data must be that of the training for the test split, got another {name} ({now[name]}, "
                f"then {known[name]}); restore it"
            )


def freeze(checkpoint: Path, setting: Mapping[str, Any] | None, folder: Path) -> Frozen:
    """A checkpoint's file with its current hash.

    Args:
        checkpoint: The file.
        setting: As from ``setting_of``.
        folder: Where the opening will be recorded; the file is named by its path from there.
    """
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Frozen(checkpoint=os.path.relpath(checkpoint, folder), sha256=digest, setting=setting)


def setting_of(record: TrialRecord) -> dict[str, Any]:
    """Loss, defence and parameters, as they are recorded with an opening."""
    return {"loss": record.loss, "defence": record.defence, **record.parameters}


def setting_of_checkpoint(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The same of a checkpoint; None if neither a run's ledger nor ``result.json`` has them."""
    if checkpoint.number is not None:
        records = read_records(Run(checkpoint.home, checkpoint.config))
        return next((setting_of(record) for record in records if record.number == checkpoint.number), None)
    result = checkpoint.home / RESULT_FILE
    return json.loads(result.read_text(encoding="utf-8"))["setting"] if result.is_file() else None


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, ..."""
    teens = 10 <= number % 100 < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
