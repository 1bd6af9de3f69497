"""When a search ends before its budget: the criteria alone, and in a ledger that is interrupted and resumed."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.records import TrialRecord
from search.config import StopConfig, SweepConfig
from search.config.schema import PlateauConfig
from search.study import Ledger, open_storage
from search.study.stopping import Effort, reason_to_stop, wall_seconds
from tests.search.examples import result, small_config

# A driver's life: the time before its start, and the times between its start and each thing that it writes down.
LIVES = st.lists(st.tuples(st.integers(1, 50), st.lists(st.integers(0, 50), max_size=4)), min_size=1, max_size=5)


@given(lives=LIVES, since=st.integers(0, 50), data=st.data())
def test_wall_time_is_the_sum_of_the_lives_in_whatever_order_they_are_read(
    lives: list[tuple[int, list[int]]], since: int, data: st.DataObject
) -> None:
    now, total, starts, events = 0, 0, [], []
    for index, (pause, steps) in enumerate(lives):
        now += pause
        starts.append(float(now))
        written = list(accumulate(steps, initial=now))[1:]
        events += map(float, written)
        now = written[-1] if written else now
        if index < len(lives) - 1:
            total += sum(steps)
    now = int(starts[-1]) + since
    assert wall_seconds(starts, data.draw(st.permutations(events)), float(now)) == total + since


def test_a_sweep_that_no_driver_has_begun_has_taken_no_time() -> None:
    assert wall_seconds([], [], 5.0) == 0.0


@pytest.mark.parametrize(
    ("stop", "seconds", "met"),
    [
        ({"hours": 1.0}, (3599.0, 1e6), None),
        ({"hours": 1.0}, (3600.0, 0.0), "search.stop.hours: 1 of 1 h spent"),
        ({"device_hours": 0.5}, (1e6, 1799.0), None),
        ({"device_hours": 0.5}, (0.0, 1836.0), "search.stop.device_hours: 0.51 of 0.5 h spent"),
        ({"hours": 1.0, "device_hours": 0.5}, (3600.0, 1800.0), "search.stop.hours"),
        ({}, (1e9, 1e9), None),
    ],
)
def test_hours(stop: dict[str, float], seconds: tuple[float, float], met: str | None) -> None:
    reason = reason_to_stop(StopConfig(**stop), *seconds, [0.0])  # type: ignore[arg-type]
    assert reason is None if met is None else str(reason).startswith(met)


@given(
    gains=st.lists(st.sampled_from([0.0, 0.0005, 0.002, 0.1]), max_size=12),
    trials=st.integers(1, 5),
    relative=st.sampled_from([0.0, 0.001, 0.05]),
)
def test_a_plateau_is_a_window_in_which_the_volume_gains_too_little(
    gains: list[float], trials: int, relative: float
) -> None:
    volumes = [0.0, *accumulate(gains, initial=0.5)]
    stop = StopConfig(plateau=PlateauConfig(trials=trials, relative=relative))
    reason = reason_to_stop(stop, 0.0, 0.0, volumes)
    window = volumes[-1 - trials :]
    if len(window) <= trials:
        assert reason is None
    else:
        gained = sum(after - before for before, after in pairwise(window))
        if abs(gained - relative * window[0]) > 1e-9:  # else rounding decides
            assert (reason is not None) == (gained < relative * window[0])


def test_effort_counts_all_seconds_and_the_volume_of_the_search_alone() -> None:
    def record(number: str, clean: float | None, robust: float = 0.5) -> TrialRecord:
        objectives = {} if clean is None else {"clean_accuracy": clean, "robust_accuracy": robust}
        return TrialRecord(
            number=number, loss="i-sce", parameters={}, state="failed" if clean is None else "complete",
            objectives=objectives, train_seconds=2.0, attack_seconds=1.0,
        )  # fmt: skip

    effort = Effort(small_config())
    for ended in (
        record("B0", 0.62, 0.4),
        record("0", 0.8),
        record("1", None),
        record("2", 0.6),
        record("3", 0.9, 0.4),
    ):
        effort.add(ended)
    effort.add(record("B1", 0.72, 0.3))  # measured from (0.6, 0.2) in units of (0.02, 0.1)
    assert effort.seconds == 18.0
    assert effort.volumes == pytest.approx([0.0, 10 * 3, 10 * 3, 10 * 3 + 5 * 2])


def test_volumes_wait_for_the_reference() -> None:
    """Until all baselines have finished there is none: nothing may look like a plateau."""
    objectives = {"clean_accuracy": "maximize", "train_seconds": "minimize"}

    def record(number: str, clean: float, seconds: float) -> TrialRecord:
        values = {"clean_accuracy": clean, "train_seconds": seconds}
        return TrialRecord(number=number, loss="i-sce", parameters={}, state="complete", objectives=values)

    effort = Effort(small_config(objectives=objectives))
    for ended in (record("B0", 0.42, 5.0), record("0", 0.8, 6.0), record("1", 0.5, 2.0)):
        effort.add(ended)
    assert effort.volumes == [0.0]
    effort.add(record("B1", 0.52, 4.0))  # measured from (0.4, 10 s) in units of (0.02, 5 s)
    assert effort.volumes == pytest.approx([0.0, 20 * 0.8, 20 * 0.8 + 5 * 0.8])


class Clock:
    """The time as the ledger reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import search.study.ledger

        self.now = 1e9
        monkeypatch.setattr(search.study.ledger.time, "time", lambda: self.now)


def driver(folder: Path, **stop: Any) -> Ledger:
    """The ledger of the next driver."""
    ledger = Ledger(open_storage(f"sqlite:///{folder / 'study.db'}"), config(**stop), "resume")
    ledger.adopt()
    return ledger


def config(**stop: Any) -> SweepConfig:
    return small_config(search={"trials": 30, "sampler": "random", "stop": stop})


def run(ledger: Ledger, most: int = 100) -> list[str]:
    """Finishes what the ledger hands out, every setting as good as the others."""
    numbers = []
    while len(numbers) < most and (unit := ledger.ask()) is not None:
        ledger.finish(unit.number, result(0.9, 0.5))
        numbers.append(unit.number)
    return numbers


def test_a_plateau_ends_the_search_and_the_running_trials_are_still_finished(tmp_path: Path) -> None:
    ledger = driver(tmp_path, plateau={"trials": 3})
    assert run(ledger, most=5) == ["B0", "B1", "0", "1", "2"]
    running = [ledger.ask(), ledger.ask()]
    assert [unit.number for unit in running if unit] == ["3", "4"]
    for unit in running[:1]:
        assert unit is not None
        ledger.finish(unit.number, result(0.9, 0.5))
    assert ledger.ask() is None  # four settings, of which the last three gained nothing
    assert str(ledger.stopped).startswith("search.stop.plateau: hypervolume 1.0000 has become 1.0000 over 3 settings")
    assert not ledger.complete

    resumed = driver(tmp_path, plateau={"trials": 3})
    orphan = resumed.ask()
    assert orphan is not None
    assert orphan.number == "4"
    resumed.finish("4", result(0.99, 0.9))  # even if that ends the plateau, the search has been ended
    assert resumed.ask() is None
    assert resumed.complete
    assert resumed.stopped == ledger.stopped
    reader = Ledger(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), config(plateau={"trials": 3}), "read")
    assert (reader.stopped, reader.complete) == (ledger.stopped, True)

    raised = driver(tmp_path, plateau={"trials": 4})
    assert raised.stopped is None
    assert not raised.complete
    assert run(raised, most=1) == ["5"]


def test_a_failed_trial_is_not_replaced_once_the_search_is_ended(tmp_path: Path) -> None:
    ledger = driver(tmp_path, plateau={"trials": 1})
    run(ledger, most=3)
    last = ledger.ask()
    assert last is not None
    other = ledger.ask()
    assert other is not None
    ledger.finish(last.number, result(0.9, 0.5))
    assert ledger.ask() is None
    ledger.fail(other.number, "nan")
    assert ledger.ask() is None
    assert ledger.complete


def test_hours_go_on_where_the_driver_before_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    first = driver(tmp_path, hours=1.0)
    run(first, most=2)
    unit = first.ask()
    assert unit is not None
    clock.now += 2400
    first.report(unit.number, {"epoch": 1, "seconds": 1.0})  # and then it dies
    clock.now += 7 * 24 * 3600
    second = driver(tmp_path, hours=1.0)
    second.ask()
    clock.now += 1140
    assert second.ask() is not None
    clock.now += 120
    assert second.ask() is None
    assert str(second.stopped).startswith("search.stop.hours: 1.02 of 1 h")


def test_device_hours_count_each_trials_devices_and_what_runs(tmp_path: Path) -> None:
    stop = {"trials": 30, "sampler": "random", "stop": {"device_hours": 1.0}}
    settings = small_config(search=stop, resources={"cpus_per_trial": 2})
    ledger = Ledger(open_storage(f"sqlite:///{tmp_path / 'study.db'}"), settings, "new")
    run(ledger, most=3)  # 9 seconds on two processors
    unit = ledger.ask()
    assert unit is not None
    ledger.report(unit.number, {"epoch": 1, "seconds": 1790.0})
    assert ledger.ask() is not None
    ledger.report(unit.number, {"epoch": 2, "seconds": 1.0})
    assert ledger.ask() is None
    assert str(ledger.stopped).startswith("search.stop.device_hours")


def test_baselines_are_trained_in_any_case(tmp_path: Path) -> None:
    ledger = driver(tmp_path, hours=1e-9)
    assert run(ledger) == ["B0", "B1"]
    assert ledger.complete
