from __future__ import annotations

import time

import pytest
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError

from search.runs.store import retrying
from search.study import may_pass, storage_reason

LOCKED = sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("database is locked\nand more of it"))


class Answers:
    """Raises what it is given, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses asked for; time passes by them alone."""
    taken: list[float] = []
    monkeypatch.setattr(time, "sleep", taken.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(taken))
    return taken


def test_what_may_pass_is_waited_for_with_longer_and_longer_pauses(pauses: list[float]) -> None:
    told: list[BaseException] = []
    errors = [OSError(str(i)) for i in range(6)]
    assert retrying(60, lambda _: True, told.append)(Answers(*errors)) == "answer"
    assert told == errors
    assert pauses == [0.5, 1, 2, 4, 8, 8]


def test_it_gives_up_before_a_pause_that_would_be_too_long(pauses: list[float]) -> None:
    with pytest.raises(OSError, match="5"):
        retrying(20, lambda _: True)(Answers(*(OSError(str(i)) for i in range(9))))
    assert sum(pauses) == 15.5


def test_what_will_not_pass_is_raised_at_once(pauses: list[float]) -> None:
    with pytest.raises(KeyError):
        retrying(60, lambda error: isinstance(error, OSError))(Answers(KeyError("no")))
    assert not pauses


def test_only_what_the_database_itself_says_may_pass() -> None:
    wrapped = StorageInternalError("An exception is raised during the commit.")
    wrapped.__cause__ = LOCKED
    assert may_pass(LOCKED)
    assert may_pass(wrapped)
    assert not may_pass(StorageInternalError("no such study"))
    assert not may_pass(sqlalchemy.exc.ArgumentError("bad URL"))
    assert not may_pass(OSError("disk"))
    assert storage_reason(wrapped) == storage_reason(LOCKED) == "database is locked"
