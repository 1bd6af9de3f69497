"""The simulator: a sweep on a virtual clock through the real ledger and halving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import InMemoryStorage

from analysis.hypervolume import hypervolume
from search.config import SweepConfig
from search.study import Halving, Ledger, Unit, open_storage
from tests.benchmarks.simulator import Curve, End, Replay, Simulation, simulate
from tests.search.examples import small_config
from trainables.candidate import Candidate

OBJECTIVES: Mapping[str, Any] = {"clean_accuracy": "maximize", "robust_accuracy": "maximize"}
EPOCHS = 9


class Smooth:
    """Accuracies that depend on the setting, and approach their final values at a speed that does too."""

    def curve(self, unit: Unit) -> Curve:
        s, m = unit.candidate.parameters.get("s", 1.0), unit.candidate.parameters.get("m", 0.0)
        end = np.array([0.9 + 0.05 * (2 - s) - m, 0.2 + 0.3 * (s - 1) + 2 * m * (0.1 - m)])
        grown = 1 - np.exp(-np.arange(1, EPOCHS + 1) * (0.2 + 3 * m))
        estimates = [dict(zip(OBJECTIVES, row, strict=True)) for row in (end * grown[:, None]).tolist()]
        return Curve(
            seconds=[1 + m] * EPOCHS,
            estimates=estimates,
            objectives=dict(zip(OBJECTIVES, end.tolist(), strict=True)),
            evaluation_seconds=0.5,
        )


class FixedSeconds:
    """Seconds per epoch for each unit, in order; everything else is the same."""

    def __init__(self, seconds: Sequence[float], evaluation_seconds: float = 0.0) -> None:
        self._seconds, self._evaluation = list(seconds), evaluation_seconds

    def curve(self, unit: Unit) -> Curve:
        del unit
        values = {"clean_accuracy": 0.9, "robust_accuracy": 0.5}
        return Curve(
            seconds=[self._seconds.pop(0)] * 2,
            estimates=[values] * 2,
            objectives=values,
            evaluation_seconds=self._evaluation,
        )


def new_ledger(folder: Path | None = None, **search: Any) -> Ledger:
    storage: Any = InMemoryStorage() if folder is None else open_storage(f"sqlite:///{folder / 'study.db'}")
    return Ledger(storage, config(**search), "new")


def config(**search: Any) -> SweepConfig:
    return small_config(search={"sampler": "random", "trials": 12, **search})


def halved(ledger: Ledger, concurrency: int, surrogate: Any = None) -> Simulation:
    return simulate(ledger, surrogate or Smooth(), concurrency=concurrency, halving=Halving(OBJECTIVES, (1, 3), 3.0))


def test_trials_take_their_time_and_free_slots_are_filled_at_once() -> None:
    simulation = simulate(new_ledger(trials=2), FixedSeconds([1.0, 3.0, 1.0, 1.0], 0.25), concurrency=2)
    # One slot runs B0, 0 and 1 in turn, each two epochs and the evaluation; the other slot runs B1.
    assert [(end.number, end.time, end.epochs) for end in simulation.ends] == [
        ("B0", 2.25, 2),
        ("0", 4.5, 5),
        ("B1", 6.25, 6 + 1),
        ("1", 6.75, 8),
    ]
    assert simulation.epochs == 8
    assert simulation.decisions == ()


def test_epochs_that_end_at_the_same_time_end_in_the_order_of_the_trials_starts() -> None:
    simulation = simulate(new_ledger(trials=4), FixedSeconds([1.0] * 6), concurrency=3)
    assert [end.number for end in simulation.ends] == ["B0", "B1", "0", "1", "2", "3"]
    uneven = simulate(new_ledger(trials=1), FixedSeconds([2.0, 4.0, 9.0]), concurrency=2)
    assert uneven.ends[0] == End(4.0, "B0", 2, uneven.ends[0].objectives)  # before the first epoch of B1


def test_the_ledger_holds_what_happened(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, trials=6)
    simulation = halved(ledger, 2)
    assert ledger.complete
    stopped = {end.number for end in simulation.ends if end.objectives is None}
    assert stopped
    assert stopped == {decision.number for decision in simulation.decisions if not decision.goes_on}
    for record in ledger.records():
        assert record.state == ("pruned" if record.number in stopped else "complete")
        assert record.epochs == len(ledger.history(record.number))
    assert simulation.epochs == sum(record.epochs for record in ledger.records())
    assert {record.number: record.objectives for record in ledger.records()} == {
        end.number: end.objectives or {} for end in simulation.ends
    }


def test_baselines_are_never_stopped_or_compared() -> None:
    class Hopeless(Smooth):
        def curve(self, unit: Unit) -> Curve:
            curve = super().curve(unit)
            if not unit.number.startswith("B"):
                return curve
            worst = dict.fromkeys(OBJECTIVES, 0.0)
            return Curve(seconds=curve.seconds, estimates=[worst] * EPOCHS, objectives=worst)

    simulation = halved(new_ledger(), 4, Hopeless())
    assert not any(decision.number.startswith("B") for decision in simulation.decisions)
    assert {"B0", "B1"} <= {end.number for end in simulation.ends if end.objectives is not None}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_repeated_search_is_identical(concurrency: int) -> None:
    first, second = halved(new_ledger(), concurrency), halved(new_ledger(), concurrency)
    assert first == second
    assert {decision.goes_on for decision in first.decisions} == {True, False}


def test_rungs_rebuilt_from_the_ledger_decide_as_before() -> None:
    ledger = new_ledger(trials=20)
    simulation = halved(ledger, 4)
    rebuilt = Halving(OBJECTIVES, (1, 3), 3.0)
    for decision in simulation.decisions:
        estimates = ledger.history(decision.number)[decision.epoch - 1]
        assert rebuilt.report(decision.number, decision.epoch, estimates) == decision.goes_on


def test_the_number_of_epochs_limits_the_search() -> None:
    simulation = simulate(new_ledger(trials=12), Smooth(), concurrency=4, epochs=2 * EPOCHS + 5)
    assert simulation.epochs == 2 * EPOCHS + 5
    whole = simulate(new_ledger(trials=12), Smooth(), concurrency=4, epochs=14 * EPOCHS)
    assert len(whole.ends) == 14  # the evaluation after the last epoch still runs
    assert whole == simulate(new_ledger(trials=12), Smooth(), concurrency=4)


def test_the_hypervolume_counts_only_full_trainings_of_the_search() -> None:
    simulation = halved(new_ledger(), 2)
    trace = simulation.hypervolume_trace(OBJECTIVES, dict.fromkeys(OBJECTIVES, 0.0))
    whole = [end for end in simulation.ends if end.objectives is not None and not end.number.startswith("B")]
    assert [epochs for epochs, _ in trace] == [end.epochs for end in whole]
    points = [[end.objectives[name] for name in OBJECTIVES] for end in whole if end.objectives]
    assert trace[-1][1] == hypervolume(points, ["maximize", "maximize"], [0.0, 0.0])
    assert [volume for _, volume in trace] == sorted(volume for _, volume in trace)


def test_a_replay_returns_the_nearest_full_training() -> None:
    def curve(value: float, whole: bool = True) -> Curve:
        values = {"clean_accuracy": value}
        return Curve(seconds=[1.0], estimates=[values], objectives=values if whole else None)

    near, far, other_seed, stopped = curve(0.1), curve(0.2), curve(0.25), curve(0.3, whole=False)
    replay = Replay(
        [
            (Candidate("i-sce", {"s": 1.0, "m": 0.1}), 0, near),
            (Candidate("i-sce", {"s": 2.0, "m": 0.05}), 0, far),
            (Candidate("i-sce", {"s": 2.0, "m": 0.05}), 1, other_seed),
            (Candidate("i-sce", {"s": 1.2, "m": 0.1}), 0, stopped),
        ],
        baselines=[
            (Candidate("cross-entropy", {}), 0, curve(0.4)),
            (Candidate("i-sce", {"s": 1.0, "m": 0.0}), 0, curve(0.5)),
        ],
    )

    def answer(s: float, m: float) -> Curve:
        return replay.curve(Unit("0", Candidate("i-sce", {"s": s, "m": m})))

    assert answer(1.0, 0.1) is near
    assert replay.curve(Unit("R0", Candidate("i-sce", {"s": 2.0, "m": 0.05}), 1)) is other_seed
    assert replay.curve(Unit("R0", Candidate("i-sce", {"s": 1.0, "m": 0.1}), 1)) is near
    assert answer(1.2, 0.1) is stopped  # known exactly, as far as it goes
    assert answer(1.2, 0.099) is near
    assert answer(1.0, 0.001) is far  # not the nearby baseline, which has no estimates
    assert answer(1.3, 0.05) is far  # 0.05 in m is as far as 1.0 in s: each is the whole range
    assert replay.curve(Unit("B0", Candidate("cross-entropy", {}))).objectives == {"clean_accuracy": 0.4}
    with pytest.raises(ValueError, match=r"must hold a setting of i-sce .* got none"):
        Replay([(Candidate("cross-entropy", {}), 0, near)]).curve(Unit("0", Candidate("i-sce", {"s": 1.0, "m": 0.1})))


def test_a_trial_cannot_continue_past_the_end_of_its_curve() -> None:
    class Stopped:
        def curve(self, unit: Unit) -> Curve:
            del unit
            return Curve(seconds=[1.0], estimates=[{}], objectives=None)

    with pytest.raises(ValueError, match="must reach the end of training"):
        simulate(new_ledger(), Stopped(), concurrency=1)
