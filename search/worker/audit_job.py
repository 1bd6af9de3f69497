"""The audit of a trial as a Ray task, or within the trial itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.results.audits import audit_model, summary_of
from search.runs.checkpoints import Checkpoint

if TYPE_CHECKING:
    from trainables.data.splits import Split


def audit_trial(
    checkpoint: str, profile: str, threads: int, cuda: bool, splits: Mapping[str, Split] | None = None
) -> dict[str, Any]:
    """Audits a trial's newest checkpoint in this process, unless that has been done before.

    Args:
        checkpoint: The path of the trial's folder of checkpoints, or its URL.
        profile: ``quick`` or ``reference``.
        threads: Number of torch threads.
        cuda: Whether to use a GPU. Ray leaves GPUs visible to a task that it has given none.
        splits: ``train`` and ``validation``, if this process has loaded them already.

    Returns:
        A summary as ``Ledger.audited`` takes it.
    """
    import torch

    torch.set_num_threads(threads)
    trained = Checkpoint.find(checkpoint, Path())
    folder = trained.place("audits")
    document = audit_model(trained, trained.config, folder, profile_name=profile, cuda=cuda, splits=splits)
    trained.share(folder)
    return summary_of(document)
