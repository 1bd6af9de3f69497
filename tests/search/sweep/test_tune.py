"""Tune's searcher over the ledger, without Tune."""

from __future__ import annotations

from optuna.storages import InMemoryStorage
from sqlalchemy.exc import OperationalError

from analysis.records import TrialRecord
from search.study import Ledger
from search.sweep.tune import LedgerSearcher
from search.worker.trial import FAILURE, NUMBER, OWNER, UNITS
from tests.search.examples import small_config


class FailsOnce:
    """An observer whose first look at an ended unit finds the storage away."""

    def __init__(self) -> None:
        self.ends = 0
        self.ended_units: list[str] = []

    def started(self, record: TrialRecord) -> None: ...

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None: ...

    def ended(self, record: TrialRecord) -> None:
        self.ends += 1
        if self.ends == 1:
            raise OperationalError("select", None, Exception("database is locked"))
        self.ended_units.append(record.number)

    def audited(self, record: TrialRecord) -> None: ...


def test_a_failed_unit_is_replaced_and_told_even_if_an_observer_has_to_be_called_again() -> None:
    config = small_config(search={"trials": 1, "sampler": "random"})
    observer = FailsOnce()
    searcher = LedgerSearcher(Ledger(InMemoryStorage(), config, "new"), 1, 4, [observer], lambda _: None)
    for trial_id in ("a", "b", "c"):  # both baselines and the only setting
        assert isinstance(searcher.suggest(trial_id), dict)
    assert searcher.suggest("d") is None
    assert searcher.winding_down
    searcher.on_trial_complete("c", {OWNER: 1, FAILURE: '{"0": "the training loss became nan"}'})
    searcher.check()
    assert not searcher.winding_down
    assert observer.ended_units == ["0"]
    replacement = searcher.suggest("d")
    assert isinstance(replacement, dict)
    assert replacement[UNITS][0][NUMBER] == "1"
