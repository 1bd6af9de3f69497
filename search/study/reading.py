"""What readers need of a run's ledger."""

from __future__ import annotations

from contextlib import closing

from analysis.records import TrialRecord
from search.runs.folder import Run
from search.study.ledger import Ledger
from search.study.storage import open_storage


def open_ledger(run: Run) -> Ledger:
    """The ledger of a run, for reading.

    Raises:
        UserError: The storage does not answer or does not hold the study.
    """
    return Ledger(open_storage(run.storage_url, create=False), run.config, "read")


def read_records(run: Run) -> list[TrialRecord]:
    """A run's units as its ledger has them now."""
    with closing(open_ledger(run)) as ledger:
        return ledger.records()
