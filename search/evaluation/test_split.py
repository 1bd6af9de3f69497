"""The test split: how commands open it, and a run's chosen settings on it, once each (``pareto RUN --test``).

Every opening is recorded in the run's folder first, then announced. The data set must be that of the training: the
validation and training images are compared before the opening, the test images after it, because they must not even be
hashed before.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from rich.console import Console

from analysis.export import ResultsOnTest
from analysis.records import TrialRecord
from search.config import SweepConfig, available_cpus
from search.errors import Interrupted, UserError
from search.evaluation.progress import attack
from search.results.answer import read_answer
from search.results.final import pooled
from search.results.front import front_of
from search.results.intervals import with_intervals_of
from search.results.text import describe
from search.runs.dataset import prepare_dataset
from search.runs.folder import Run, command, relative
from search.runs.layout import MANIFEST_FILE
from search.runs.provenance import fingerprint, problem_settings
from search.study import holder, open_ledger
from trainables import files
from trainables.data.partition.test_openings import OPENINGS_FILE, open_test_split, read_openings, record_opening
from trainables.data.partition.test_openings import Frozen as Frozen
from trainables.data.partition.test_openings import Opening as Opening
from trainables.metrics import CLEAN, ROBUST
from trainables.settings import DataSettings, RobustnessSettings

if TYPE_CHECKING:
    import torch

    from trainables.data.splits import Split
    from trainables.robustness import Outcomes
    from trainables.training.replicate import Replicate

RESULTS_FILE: Final = "test-results.json"
OUTCOMES: Final = "test-outcomes"


class Opened(NamedTuple):
    """The opened test split, and the attacks on no more images than it has."""

    split: Split
    robustness: RobustnessSettings
    when: str  # ISO 8601, UTC
    times: int  # how often it has been opened for its folder, this time included


def open_and_announce(
    run: Run, config: SweepConfig, models: Sequence[Frozen], device: torch.device, typed: str, console: Console
) -> Opened:
    """Opens the test split: records the opening, reads the images, prints one line, and compares the images.

    The opening is recorded in the folder of the run or single training, with the command line as ``typed``.

    Raises:
        UserError: The opening cannot be recorded, and the split stays closed; or the split is not that of the training.
    """
    opening = Opening(command=typed, models=models, robustness=config.robustness)
    with _announced(run.folder, console):
        split = open_test_split(config.data, opening, run.folder, device)
    run.share(run.folder / OPENINGS_FILE)
    check_data(run, config.data, test=True)
    images = min(config.robustness.images, len(split.images))
    return Opened(split, replace(config.robustness, images=images), opening.when, len(read_openings(run.folder)))


def record_and_announce(opening: Opening, data: DataSettings, folder: Path, console: Console) -> None:
    """Records in a folder of its own that a model from elsewhere sees test images, and prints one line.

    Raises:
        UserError: The opening cannot be recorded.
    """
    with _announced(folder, console):
        record_opening(data, opening, folder)


@contextmanager
def _announced(folder: Path, console: Console) -> Iterator[None]:
    """Prints how often the split has been opened, after the block has recorded an opening; errors become one line."""
    path = folder / OPENINGS_FILE
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{relative(path)} must be writable before the test split is opened, got {reason}; change that"
        ) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    times = ordinal(len(read_openings(folder)))
    console.print(f"The test split is opened for the {times} time (recorded in {relative(path)})", soft_wrap=True)


def check_data(run: Run, data: DataSettings, *, test: bool) -> None:
    """Refuses a data set that has changed since the training: its test images may have been training images.

    They are read and compared too with ``test``. A single training has no manifest, and nothing to compare with.

    Raises:
        UserError: Images or sizes differ, or the data is missing.
    """
    if not (run.folder / MANIFEST_FILE).is_file():
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
    """A checkpoint's file, named by its path from the folder of the opening, with its current hash and its setting."""
    path = os.path.relpath(checkpoint, folder)
    return Frozen(checkpoint=path, sha256=files.sha256(checkpoint), setting=setting)


def setting_of(record: TrialRecord) -> dict[str, Any]:
    """Loss, defence and parameters, as they are recorded with an opening."""
    return {"loss": record.loss, "defence": record.defence, **record.parameters}


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, ..."""
    teens = 10 <= number % 100 < 20
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


@dataclass(frozen=True)
class _Part:
    """One training of a setting (its own trial, or further replicates) and its last checkpoint."""

    record: TrialRecord
    path: Path
    frozen: Frozen


def read_test_results(run: Run, settings: Iterable[TrialRecord]) -> ResultsOnTest:
    """The results so far of those settings of which every replicate was evaluated as ``sweep.yaml`` says now.

    Opens nothing. The settings have all their replicates, as from ``pooled``.
    """
    stored, tested = _stored(run), dict[str, TrialRecord]()
    problem = _problem(run) if stored else None
    for record in settings:
        numbers = (record.number, *record.extensions)
        entries = [stored[each] for each in numbers if each in stored and stored[each]["fingerprint"] == problem]
        # A result that is missing leaves fewer seeds than the setting has.
        if entries and tuple(seed for entry in entries for seed in entry["seeds"]) == record.seeds:
            replicates = tuple(replicate for entry in entries for replicate in entry["replicates"])
            result = replace(
                record,
                objectives={name: float(np.mean([each[name] for each in replicates])) for name in replicates[0]},
                accuracies={},
                constraints={},
                replicates=replicates,
                images=entries[0]["images"],
                intervals={},
            )
            outcomes = [run.folder / OUTCOMES / f"{number}.npz" for number in numbers]
            tested[record.number] = with_intervals_of(result, outcomes)
    return ResultsOnTest(tested, len(read_openings(run.folder)))


def evaluate_on_test(run: Run, typed: str, console: Console) -> None:
    """Evaluates the Pareto-optimal settings and the baselines on the test split, unless they have been already.

    Raises:
        UserError: A driver is alive (while the search runs, its settings are not frozen), nothing is complete, the data
            has changed, or a checkpoint is missing or broken. The test split stays closed, unless it is its own images
            that have changed.
        Interrupted: Ctrl-C; finished evaluations are kept.
    """
    records = _frozen_records(run)
    check_data(run, run.config.data, test=False)
    settings = pooled(records, run.config.bounds)
    chosen = front_of(settings, run.config, read_answer(run))
    if not chosen:
        raise UserError(
            f"RUN must have a finished setting for --test, got {run.name} with none; "
            f"resume it with `{command('resume', run.argument)}`"
        )
    chosen += [record for record in settings if record.is_baseline and record.state == "complete"]
    own = {record.number: record for record in records}
    parts = [_frozen(run, own[number]) for record in chosen for number in (record.number, *record.extensions)]
    stored, problem = _stored(run), _problem(run)
    done = {(number, entry["sha256"]) for number, entry in stored.items() if entry["fingerprint"] == problem}
    pending = [part for part in parts if (part.record.number, part.frozen.sha256) not in done]
    if not pending:
        console.print(f"All {len(chosen)} settings have been evaluated on the test split")
        return
    try:
        _evaluate(run, pending, stored, problem, typed, console)
    except KeyboardInterrupt:
        again = command("pareto", run.argument, "--test")
        raise Interrupted(f"interrupted; finished evaluations are kept; continue with `{again}`") from None


def _frozen_records(run: Run) -> list[TrialRecord]:
    with closing(open_ledger(run)) as ledger:
        driver = holder(ledger.engine, run.name)
        if driver is not None and driver.alive:
            raise UserError(
                f"RUN must not be running for --test, got {run.name}, which process {driver.pid} on {driver.host} "
                "drives; the test split is for chosen settings, so wait until it ends"
            )
        return ledger.records()


def _frozen(run: Run, record: TrialRecord) -> _Part:
    from trainables.training.checkpoint import newest

    folder = run.fetched(record.checkpoint or "")
    try:
        path = newest(folder)
    except ValueError:
        raise UserError(
            f"the checkpoints of trial {record.number} must exist for --test, got none in {relative(folder)}; "
            "restore them"
        ) from None
    return _Part(record, path, freeze(path, setting_of(record), run.folder))


def _evaluate(
    run: Run, parts: Sequence[_Part], stored: dict[str, dict[str, Any]], problem: str, typed: str, console: Console
) -> None:
    """Opens the split and evaluates part by part; ``stored`` gets their results."""
    import torch

    from trainables.data.splits import load_splits

    torch.set_num_threads(available_cpus())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    splits = load_splits(run.config.data, device)
    loaded = [_load(part, run.config, splits) for part in parts]  # all of them, before the split is opened
    frozen = [part.frozen for part in parts]
    opened = open_and_announce(run, run.config, frozen, device, typed, console)
    for position, (part, replicates) in enumerate(zip(parts, loaded, strict=True), 1):
        began, count = time.monotonic(), f"[{position}/{len(parts)}] "
        outcomes = attack(replicates, opened.split, opened.robustness, console, prefix=count)
        path = run.folder / OUTCOMES / f"{part.record.number}.npz"
        outcomes.save(path)
        stored[part.record.number] = {
            **_entry(part, outcomes),
            "fingerprint": problem,
            "opened": opened.when,
            "seconds": time.monotonic() - began,
        }
        files.write(run.folder / RESULTS_FILE, json.dumps(list(stored.values()), indent=2) + "\n")
        run.share(path, run.folder / RESULTS_FILE)
        clean, robust = outcomes.clean_accuracy().mean(), outcomes.robust_accuracy().mean()
        console.print(
            f"{count}{describe(part.record)}clean {100 * clean:.1f} %, robust {100 * robust:.1f} % of the test images",
            markup=False,
        )


def _load(part: _Part, config: SweepConfig, splits: Mapping[str, Split]) -> list[Replicate]:
    """A training's models, with the seeds and epochs that its record says."""
    from trainables.training.checkpoint import load_trained

    trial = f"trial {part.record.number}"
    try:
        replicates = load_trained(part.path, config.problem, splits)
    except ValueError as error:
        raise UserError(f"{trial}: {error}") from None
    seeds = tuple(replicate.seed for replicate in replicates)
    if seeds != part.record.seeds:
        raise UserError(
            f"{trial}: the checkpoint must be of the seeds {list(part.record.seeds)}, "
            f"got {relative(part.path)} of {list(seeds)}; restore the right one"
        )
    if part.record.origin is None and replicates[0].epoch < config.train.epochs:
        raise UserError(
            f"{trial}: the checkpoint must be of epoch {config.train.epochs}, "
            f"got {relative(part.path)}; restore the last one"
        )
    return replicates


def _entry(part: _Part, outcomes: Outcomes) -> dict[str, Any]:
    accuracies = {name: kept.mean(axis=1) for name, kept in outcomes.by_name().items()}
    return {
        "number": part.record.number,
        "setting": part.frozen.setting,
        "checkpoint": part.frozen.checkpoint,
        "sha256": part.frozen.sha256,
        "seeds": list(outcomes.seeds),
        "images": {CLEAN: outcomes.clean.shape[-1], ROBUST: outcomes.kept.shape[-1]},
        "replicates": [
            {name: float(values[r]) for name, values in accuracies.items()} for r in range(len(outcomes.seeds))
        ],
    }


def _problem(run: Run) -> str:
    """A hash of everything that a test number depends on besides its checkpoint."""
    return fingerprint(problem_settings(run.config, run.manifest()["data"]))


def _stored(run: Run) -> dict[str, dict[str, Any]]:
    path = run.folder / RESULTS_FILE
    if not path.is_file():
        return {}
    try:
        return {entry["number"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))}
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"{relative(path)} must be as --test wrote it, got something else; remove it") from None
