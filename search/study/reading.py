"""A run's ledger for readers: commands that look at a run and never change it."""

from __future__ import annotations

from contextlib import closing

from analysis.records import TrialRecord
from search.runs.folder import Run
from search.study.ledger import Ledger, open_storage


def open_ledger(run: Run) -> Ledger:
    """Opens the ledger of a run for reading.

    Args:
        run: The run.

    Raises:
        UserError: The storage does not answer or does not hold the study.
    """
    return Ledger(open_storage(run.storage_url, create=False), run.config, "read")


def read_records(run: Run) -> list[TrialRecord]:
    """The current trials of a run.

    Args:
        run: The run.

    Raises:
        UserError: As ``open_ledger``.
    """
    with closing(open_ledger(run)) as ledger:
        return ledger.records()
