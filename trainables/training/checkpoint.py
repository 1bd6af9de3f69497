"""Checkpoints of a training: one file per epoch that holds every replicate's full state.

A folder has one writer at a time, its owner, who claims it by a number. A writer with a lower number (a worker that
outlives its driver) finds that it has been superseded, and writes no more.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from trainables.candidate import Candidate, resolve
from trainables.data.splits import Split
from trainables.files import write
from trainables.settings import Problem
from trainables.training.replicate import Replicate, make_replicate

KEPT = 2
PATTERN = "epoch-*.pt"
OWNER = "owner"
BEST = "best-{}.pt"  # with a replicate's seed; never removed, unlike the files of epochs

logger = logging.getLogger(__name__)


class Superseded(RuntimeError):
    """A later owner has claimed the writer's folder, so the writer must stop."""


def claim(folder: Path, owner: int) -> None:
    """Makes ``owner`` the only writer of the folder, which need not exist.

    Raises:
        Superseded: A later owner, with a higher number, has claimed it.
    """
    check_claim(folder, owner)
    write(folder / OWNER, str(owner))


def check_claim(folder: Path, owner: int) -> None:
    """Raises `Superseded` if a later owner has claimed the folder."""
    path = folder / OWNER
    claimed = int(path.read_text(encoding="utf-8")) if path.exists() else 0
    if claimed > owner:
        raise Superseded(f"{folder} belongs to owner {claimed} now, owner {owner} writes no more")


def save(folder: Path, replicates: Sequence[Replicate], candidate: Candidate, owner: int = 0) -> None:
    """Writes ``epoch-00007.pt`` after seven epochs, and removes all but the last two files.

    The file appears whole or not at all, whenever the process or the machine stops. The previous file stays, in case
    the disk damages the newest.

    Args:
        folder: Created if it does not exist.
        candidate: What is trained; the file records it, so that ``load_trained`` needs no other source.
        owner: Who has claimed the folder; the file records it too.

    Raises:
        Superseded: A later owner has claimed the folder, which is as before.
    """
    _write(folder / f"epoch-{replicates[0].epoch:05d}.pt", replicates, candidate, owner)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)


def save_best(folder: Path, replicate: Replicate, candidate: Candidate, owner: int = 0) -> None:
    """Writes one replicate as the best so far; arguments and errors as for ``save``, which must follow.

    If the process dies between the two, the epoch is repeated and writes the same file.
    """
    _write(folder / BEST.format(replicate.seed), [replicate], candidate, owner)


def _write(path: Path, replicates: Sequence[Replicate], candidate: Candidate, owner: int) -> None:
    states = [replicate.state_dict() for replicate in replicates]
    content = io.BytesIO()
    torch.save({"owner": owner, "candidate": asdict(candidate), "replicates": states}, content)
    # The worker of a node that was cut off, and its successor, may write to one folder from two machines.
    write(path, content.getvalue(), last_check=lambda: check_claim(path.parent, owner))


def load_latest(folder: Path, replicates: Sequence[Replicate]) -> int:
    """Puts replicates back to the newest readable checkpoint of a folder, and warns of each unreadable one.

    Returns:
        Epochs done; 0 (and nothing changed) if there is no readable checkpoint, or no folder.

    Raises:
        ValueError: The checkpoint is that of another model, another loss or other replicates.
    """
    for path in _newest_first(folder):
        try:
            _, states = read(path)
        except ValueError as error:
            logger.warning("%s", error)
            continue
        if len(states) != len(replicates):
            raise ValueError(
                f"train.replicates must be {len(states)} as in {path}, got {len(replicates)}; choose another folder"
            )
        _restore(replicates, states, path)
        if not replicates[0].streams_fit(states[0]):
            logger.warning("%s is from another kind of device: the order of images continues from a new seed", path)
        return replicates[0].epoch
    return 0


def read(path: Path) -> tuple[Candidate, list[dict[str, Any]]]:
    """What was trained, and the saved state of each replicate, its tensors on the CPU.

    The file is loaded with ``weights_only=True``, so that a checkpoint from elsewhere cannot run code.

    Raises:
        ValueError: The file is damaged, or holds more than tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Candidate(**content["candidate"]), content["replicates"]
    except Exception as error:  # damaged bytes surface as any error of zip, pickle or torch
        raise ValueError(
            f"the checkpoint must be readable, got {path} ({type(error).__name__}); use the previous file"
        ) from error


def load_trained(checkpoint: Path, problem: Problem, splits: Mapping[str, Split]) -> list[Replicate]:
    """The replicates of a training as a checkpoint left them, whatever their seeds.

    Args:
        checkpoint: A file that ``save`` wrote, or its folder for the newest readable file.
        problem: What the candidates of a search share. What the file says of its own candidate is put in.
        splits: As for `make_replicates`.

    Raises:
        ValueError: There is no readable checkpoint, or it is that of another model or loss.
    """
    paths = _newest_first(checkpoint) if checkpoint.is_dir() else [checkpoint]
    for path in paths:
        try:
            candidate, states = read(path)
        except ValueError:
            if path == paths[-1]:
                raise
            continue
        trained = resolve(problem, candidate)
        replicates = [make_replicate(trained, splits["train"], state["seed"]) for state in states]
        _restore(replicates, states, path)
        return replicates
    raise _missing(checkpoint)


def newest(checkpoint: Path) -> Path:
    """The last epoch's file in a folder of checkpoints; a file is itself.

    Raises:
        ValueError: The folder holds no checkpoint.
    """
    paths = [checkpoint] if checkpoint.is_file() else _newest_first(checkpoint)
    if not paths:
        raise _missing(checkpoint)
    return paths[0]


def _restore(replicates: Sequence[Replicate], states: Sequence[Mapping[str, Any]], path: Path) -> None:
    try:
        for replicate, state in zip(replicates, states, strict=True):
            replicate.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"model and loss must be those saved in {path}, got others; choose another checkpoint"
        ) from error


def _missing(checkpoint: Path) -> ValueError:
    return ValueError(f"the checkpoint must be a file or folder of {PATTERN}, got {checkpoint}; train one first")


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN), reverse=True)
