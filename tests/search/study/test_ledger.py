"""The ledger: what is handed out, in which order, and what becomes of what a driver left behind."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from optuna.storages._rdb import models
from optuna.trial import Trial, TrialState
from sqlalchemy import create_engine, inspect, select
from sqlalchemy.exc import OperationalError

from search.config import SweepConfig
from search.errors import UserError
from search.study import Ledger, Unit, open_storage
from tests.search.examples import result, small_config
from trainables.candidate import Candidate

BASELINES = [Candidate("cross-entropy", {}), Candidate("i-sce", {"s": 1.0, "m": 0.0})]


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def new_ledger(folder: Path, config: SweepConfig | None = None) -> Ledger:
    return Ledger(open_storage(url(folder)), config or small_config(), "new")


def reopened(folder: Path, config: SweepConfig | None = None) -> Ledger:
    """The ledger as the next driver finds it."""
    ledger = Ledger(open_storage(url(folder)), config or small_config(), "resume")
    ledger.adopt()
    return ledger


def finish_all(ledger: Ledger) -> list[Unit]:
    """Runs the budget down; the objectives depend on the setting alone."""
    units = []
    while (unit := ledger.ask()) is not None:
        units.append(unit)
        s, m = unit.candidate.parameters.get("s", 0.0), unit.candidate.parameters.get("m", 0.0)
        ledger.finish(unit.number, result(0.9 + s / 100, 0.5 - m))
    return units


def test_baselines_come_first_then_the_papers_setting_then_suggestions(tmp_path: Path) -> None:
    units = finish_all(new_ledger(tmp_path))
    assert [unit.number for unit in units] == ["B0", "B1", "0", "1", "2", "3"]
    assert [unit.candidate for unit in units[:2]] == BASELINES
    assert units[2].candidate == Candidate("i-sce", {"s": 1.0, "m": 0.1})
    for unit in units[3:]:
        assert 1 <= unit.candidate.parameters["s"] <= 2
        assert 0 < unit.candidate.parameters["m"] <= 0.1


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_resumed_search_suggests_what_an_uninterrupted_one_does(sampler: str, tmp_path: Path) -> None:
    config = small_config(search={"sampler": sampler, "trials": 14})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = finish_all(new_ledger(tmp_path / "a", config))

    pieces: list[Unit] = []
    ledger = new_ledger(tmp_path / "b", config)
    while True:
        unit = ledger.ask()
        if unit is None:
            break
        pieces.append(unit)
        s, m = unit.candidate.parameters.get("s", 0.0), unit.candidate.parameters.get("m", 0.0)
        ledger.finish(unit.number, result(0.9 + s / 100, 0.5 - m))
        ledger = reopened(tmp_path / "b", config)  # a new driver after every trial
    assert pieces == whole


def test_a_grid_is_tried_point_by_point_and_no_further(tmp_path: Path) -> None:
    config = small_config(search={"sampler": "grid", "grid": {"s": 3, "m": 2}, "trials": None})
    units = finish_all(new_ledger(tmp_path, config))
    assert [dict(unit.candidate.parameters) for unit in units[2:]] == config.fixed_settings


def test_the_budget_counts_running_trials(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    units = [ledger.ask() for _ in range(6)]
    assert None not in units
    assert ledger.ask() is None
    assert not ledger.complete


def test_a_failed_trial_is_replaced_and_does_not_count(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    for _ in range(2):
        baseline = ledger.ask()
        assert baseline is not None
        ledger.finish(baseline.number, result(0.9, 0.5))
    first = ledger.ask()
    assert first is not None
    ledger.fail(first.number, "the training loss became nan")
    again = ledger.ask()
    assert again is not None
    assert again.number == "1"
    assert again.candidate == first.candidate  # the paper's setting is tried in any case
    ledger.finish(again.number, result(0.9, 0.5))
    finish_all(ledger)
    counts = ledger.counts()
    assert (counts.complete, counts.failed, counts.budget) == (4, 1, 4)
    assert ledger.complete
    record = ledger.record("0")
    assert record.failure == "the training loss became nan"
    assert record.objectives == {}


def test_a_failed_baseline_is_trained_again_under_a_new_number(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    unit = ledger.ask()
    assert unit is not None
    ledger.fail(unit.number, "its worker process died")
    units = finish_all(ledger)
    assert [unit.number for unit in units[:2]] == ["B1", "B2"]
    assert {str(unit.candidate) for unit in units[:2]} == {str(setting) for setting in BASELINES}
    assert ledger.complete


def test_replacements_are_capped_and_a_new_driver_begins_to_count_anew(tmp_path: Path) -> None:
    config = small_config(resources={"max_failures": 2})
    ledger = new_ledger(tmp_path, config)
    for _ in range(3):
        unit = ledger.ask()
        assert unit is not None
        ledger.fail(unit.number, "nan")
    assert ledger.ask() is None
    assert ledger.failures_exhausted
    assert not ledger.complete
    again = reopened(tmp_path, config)
    assert again.failures() == 0
    assert again.ask() is not None


def test_an_orphan_is_handed_out_again_before_anything_else(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    units = [ledger.ask() for _ in range(4)]
    assert units[3] is not None
    ledger.report("1", {"epoch": 1, "seconds": 2.0, "train_loss": 0.5})
    ledger.finish("0", result(0.9, 0.5))

    next_driver = reopened(tmp_path)
    handed = [next_driver.ask() for _ in range(4)]
    assert [unit.number for unit in handed if unit] == ["B0", "B1", "1", "2"]
    assert handed[2] is not None
    assert handed[2].candidate == units[3].candidate
    assert [epoch["epoch"] for epoch in next_driver.history("1")] == [1]


class Died(Exception):
    """Stands for the death of the driver."""


def die(*_: object, **__: object) -> None:
    raise Died


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
@pytest.mark.parametrize("suggestions", [0, 1, 2])
def test_a_row_whose_driver_died_within_the_ask_gets_the_same_suggestions_from_the_next(
    sampler: str, suggestions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = (
        {"sampler": "grid", "trials": None, "grid": {"s": 4, "m": 3}}
        if sampler == "grid"
        else {"sampler": sampler, "trials": 13}
    )
    config = small_config(search=search)
    (tmp_path / "whole").mkdir()
    whole = finish_all(new_ledger(tmp_path / "whole", config))

    ledger = new_ledger(tmp_path, config)
    handed: list[Unit] = []
    for _ in range(len(whole) - 1):
        unit = ledger.ask()
        assert unit is not None
        handed.append(unit)
        s, m = unit.candidate.parameters.get("s", 0.0), unit.candidate.parameters.get("m", 0.0)
        ledger.finish(unit.number, result(0.9 + s / 100, 0.5 - m))
    suggest, asked = Trial.suggest_float, 0

    def suggest_then_die(*arguments: Any, **options: Any) -> float:
        nonlocal asked
        if asked == suggestions:
            raise Died
        asked += 1
        return suggest(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "suggest_float", suggest_then_die)
        patch.setattr(ledger._storage, "set_trial_user_attr", die)
        with pytest.raises(Died):
            ledger.ask()

    again = reopened(tmp_path, config)
    assert again.counts().running == 0
    assert [*handed, *finish_all(again)] == whole
    assert {trial.state for trial in again._search.study.trials} == {TrialState.COMPLETE}


def test_a_half_made_row_that_is_not_needed_is_void(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    finish_all(ledger)
    ledger._search.study.ask()
    again = reopened(tmp_path)
    assert again.ask() is None
    assert again.complete
    assert again.counts().failed == 0
    assert again._search.study.trials[-1].state == TrialState.FAIL
    assert len(again.records()) == 6


def test_an_ask_whose_answer_was_lost_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = new_ledger(tmp_path)
    write = ledger._storage.set_trial_user_attr

    def write_then_fail(trial_id: int, key: str, value: Any) -> None:
        write(trial_id, key, value)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(ledger._storage, "set_trial_user_attr", write_then_fail)
        with pytest.raises(Died):
            ledger.ask()
    assert [unit.number for unit in finish_all(ledger)] == ["B0", "B1", "0", "1", "2", "3"]


def test_a_driver_that_has_lost_its_lease_writes_nothing(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    unit = ledger.ask()
    assert unit is not None
    ledger.adopt(lambda: None)
    before = ledger.records()
    ledger._check = die
    for write in (
        ledger.ask,
        lambda: ledger.report(unit.number, {"epoch": 1, "seconds": 1.0}),
        lambda: ledger.finish(unit.number, result(0.9, 0.5)),
        lambda: ledger.fail(unit.number, "nan"),
        lambda: ledger.prune(unit.number),
    ):
        with pytest.raises(Died):
            write()
    assert ledger.records() == before


def test_a_result_whose_tell_was_cut_off_is_told_by_the_next_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger(tmp_path)
    unit = ledger.ask()
    assert unit is not None
    monkeypatch.setattr(ledger, "_tell", lambda *_: None)  # killed between the two writes
    ledger.finish(unit.number, result(0.91, 0.42))
    again = reopened(tmp_path)
    assert again.record("B0").objectives == {"clean_accuracy": 0.91, "robust_accuracy": 0.42}
    next_unit = again.ask()
    assert next_unit is not None
    assert next_unit.number == "B1"


def test_saying_a_thing_twice_changes_nothing(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    unit = ledger.ask()
    assert unit is not None
    ledger.report(unit.number, {"epoch": 1, "seconds": 1.0, "train_loss": 0.5})
    first = ledger.history(unit.number)
    ledger.report(unit.number, {"epoch": 1, "seconds": 9.0, "train_loss": 0.5})
    assert ledger.history(unit.number) == first
    ledger.finish(unit.number, result(0.9, 0.5))
    ledger.finish(unit.number, result(0.1, 0.1))
    ledger.fail(unit.number, "too late")
    record = ledger.record(unit.number)
    assert record.state == "complete"
    assert record.objectives == {"clean_accuracy": 0.9, "robust_accuracy": 0.5}


def test_a_second_sweep_of_the_same_name_is_refused(tmp_path: Path) -> None:
    new_ledger(tmp_path)
    with pytest.raises(UserError, match="resume small"):
        new_ledger(tmp_path)


def test_a_study_that_is_gone_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="RUN must have begun"):
        open_storage(url(tmp_path), create=False)
    open_storage(url(tmp_path))
    with pytest.raises(UserError, match="RUN must have begun, got small"):
        Ledger(open_storage(url(tmp_path), create=False), small_config(), "read")


def test_a_reader_leaves_tables_that_are_being_made_to_their_driver(tmp_path: Path) -> None:
    engine = create_engine(url(tmp_path))
    models.BaseModel.metadata.create_all(engine)  # as far as a driver has come that just begins
    before = inspect(engine).get_table_names()
    with pytest.raises(UserError, match="RUN must have begun, got nothing at"):
        open_storage(url(tmp_path), create=False)
    assert inspect(engine).get_table_names() == before
    with engine.connect() as connection:
        assert connection.execute(select(models.VersionInfoModel)).all() == []
    engine.dispose()
    open_storage(url(tmp_path))
    open_storage(url(tmp_path), create=False)


def test_a_driver_that_died_before_its_studies_were_made_is_followed_by_one_that_makes_them(tmp_path: Path) -> None:
    assert [unit.number for unit in finish_all(reopened(tmp_path))] == ["B0", "B1", "0", "1", "2", "3"]


@pytest.mark.parametrize("seed", range(4))
def test_what_the_writer_remembers_is_what_a_reader_finds(seed: int, tmp_path: Path) -> None:
    """Whatever happens to trials in whatever order, and also when a write fails after or before it came through."""
    config = small_config(search={"trials": 12, "sampler": "random"}, resources={"max_failures": 100})
    writer = new_ledger(tmp_path, config)
    storage = open_storage(url(tmp_path))
    random, running = Random(seed), []
    for _ in range(40):
        deed = random.choice(["ask", "ask", "report", "finish", "finish", "fail", "prune", "broken"])
        if deed == "ask":
            unit = writer.ask()
            running += [unit.number] if unit else []
        elif running:
            number = running.pop(random.randrange(len(running)))
            if deed == "report":
                writer.report(number, {"epoch": 1, "seconds": 1.0})
                running.append(number)
            elif deed == "broken":
                tell = writer._find(number)[0].study.tell

                def broken(*args: Any, tell: Any = tell, through: bool = random.random() < 0.5, **kwargs: Any) -> None:
                    if through:
                        tell(*args, **kwargs)
                    raise OperationalError("commit", None, Exception("disk I/O error"))

                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(writer._find(number)[0].study, "tell", broken)
                    with pytest.raises(OperationalError):
                        writer.finish(number, result(0.9, 0.5))
                writer.finish(number, result(0.9, 0.5))
            elif deed == "finish":
                writer.finish(number, result(random.random(), random.random()))
            elif deed == "fail":
                writer.fail(number, "nan")
            else:
                writer.prune(number)
        reader = Ledger(storage, config, "read")
        assert writer.records() == reader.records()
        assert (writer.counts(), writer.failures()) == (reader.counts(), reader.failures())
        assert writer._next_fixed() == reader._next_fixed()
        assert [trial.number for trial in writer._search.ended] == [trial.number for trial in reader._search.ended]


def test_the_reference_is_fixed_though_the_answer_to_a_baselines_tell_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger(tmp_path)
    units = [ledger.ask(), ledger.ask()]
    tell = ledger._baselines.study.tell

    def tell_then_fail(*args: Any, **kwargs: Any) -> None:
        tell(*args, **kwargs)
        raise OperationalError("commit", None, Exception("server closed the connection"))

    for unit in units:
        assert unit is not None
        with monkeypatch.context() as patch:
            patch.setattr(ledger._baselines.study, "tell", tell_then_fail)
            with pytest.raises(OperationalError):
                ledger.finish(unit.number, result(0.9, 0.5))
        ledger.finish(unit.number, result(0.9, 0.5))
    assert ledger.reference is not None


def test_records_name_the_defence(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, small_config(defence={"name": "adversarial-training", "steps": 1}))
    finish_all(ledger)
    assert {record.defence for record in ledger.records()} == {"adversarial-training"}
