"""What can be sought and bounded, from the configuration to the records."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config import Constraint, load
from search.config.objectives import directions
from search.results.standing import reference_of
from search.study import Ledger, open_storage
from tests.search.examples import result, small_config, unit_result
from trainables.attacks.pgd import PGD
from trainables.attacks.torchattacks import Torchattacks
from trainables.settings import RobustnessSettings

THREE = {"clean_accuracy": "maximize", "pgd2-ce/worst": "maximize", "train_seconds": "minimize"}


def test_what_a_sweep_measures_follows_from_its_attacks_and_views() -> None:
    attacks = PGD(steps=5), Torchattacks(attack="APGD")
    assert directions(RobustnessSettings(attacks=attacks, epsilon=(1.5, 0.5, 2.0))) == {
        **dict.fromkeys(("clean_accuracy", "robust_accuracy", "pgd5-ce/normalized", "pgd5-ce/worst"), "maximize"),
        **dict.fromkeys(("robust_accuracy@0.5", "robust_accuracy@2"), "maximize"),
        **dict.fromkeys(("torchattacks.APGD/normalized", "torchattacks.APGD/worst"), "maximize"),
        **dict.fromkeys(("validation_loss", "train_seconds", "attack_seconds"), "minimize"),
    }


@given(value=st.floats(0, 1), bound=st.floats(0, 1))
def test_a_bound_is_kept_or_missed_by_the_distance_to_it(value: float, bound: float) -> None:
    at_least, at_most = (Constraint.parse("clean_accuracy", f"{sign} {bound!r}") for sign in (">=", "<="))
    assert at_least.excess(value) == pytest.approx(bound - value, abs=1e-12)
    assert at_most.excess(value) == -at_least.excess(value)
    if abs(value - bound) > 1e-12:
        assert (at_least.excess(value) <= 0) == (value >= bound)
    assert at_least.excess(bound) == 0


def test_a_rounding_error_of_a_mean_misses_no_bound() -> None:
    mean = sum((0.9, 0.9, 0.915)) / 3
    assert mean < 0.905
    assert Constraint.parse("clean_accuracy", ">= 0.905").excess(mean) == 0


@pytest.mark.parametrize(
    "text", ["0.9", "> 0.9", "== 0.9", ">= 0.9 0.8", ">= 0.9 and more", "", ">=", ">= inf", ">= nan"]
)
def test_anything_else_is_no_constraint(text: str) -> None:
    with pytest.raises(ValueError, match="must be '>= NUMBER' or '<= NUMBER'"):
        Constraint.parse("clean_accuracy", text)


def test_objectives_and_constraints_are_read_back_as_they_were_resolved(tmp_path: Path) -> None:
    config = small_config(objectives=THREE, constraints={"robust_accuracy": ">= 0.3", "train_seconds": "<= 60"})
    path = tmp_path / "sweep.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load(path) == config
    assert list(load(path).objectives) == list(THREE)
    assert [str(bound) for bound in config.bounds] == ["robust_accuracy >= 0.3", "train_seconds <= 60"]


def finished(folder: Path, seconds: float = 4.0) -> Ledger:
    """A sweep of three objectives and two constraints; the costs of its trials rise, from the baselines on."""
    limits = {"clean_accuracy": ">= 0.9", "train_seconds": f"<= {seconds}"}
    ledger = Ledger(
        open_storage(f"sqlite:///{folder / 'study.db'}"), small_config(objectives=THREE, constraints=limits), "new"
    )
    cost = 0.0
    while (task := ledger.ask()) is not None:
        cost += 1.0
        clean, robust = 0.88 + 0.01 * cost, 0.4 - 0.01 * cost
        values = {"clean_accuracy": clean, "robust_accuracy": robust, "pgd2-ce/worst": robust, "train_seconds": cost}
        ledger.finish(task.number, unit_result(values))
    return ledger


def test_the_records_hold_every_accuracy_once_and_say_what_is_feasible(tmp_path: Path) -> None:
    records = {record.number: record for record in finished(tmp_path).records()}
    assert list(records) == ["B0", "B1", "0", "1", "2", "3"]
    third = records["0"]
    assert third.objectives == pytest.approx({"clean_accuracy": 0.91, "pgd2-ce/worst": 0.37, "train_seconds": 3.0})
    assert third.accuracies == pytest.approx({"robust_accuracy": 0.37})
    assert third.constraints == pytest.approx({"clean_accuracy >= 0.9": -0.01, "train_seconds <= 4": -1.0})
    assert [record.feasible for record in records.values()] == [False, True, True, True, False, False]
    assert records["3"].violation == pytest.approx(2.0)
    low, high = third.interval("pgd2-ce/worst")
    assert low < 0.37 < high  # of the 20 images that the worst case rests on


def test_a_driver_that_dies_between_constraint_and_tell_is_followed_by_one_that_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(constraints={"clean_accuracy": ">= 0.9", "robust_accuracy": ">= 0.1"})
    url = f"sqlite:///{tmp_path / 'study.db'}"
    ledger = Ledger(open_storage(url), config, "new")
    tasks = [ledger.ask() for _ in range(3)]
    assert tasks[2] is not None

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(ledger._search.study, "tell", die)
    with pytest.raises(Killed):
        ledger.finish("0", result(0.8, 0.5))
    after = Ledger(open_storage(url), config, "resume")
    after.adopt()
    record = after.record("0")
    assert (record.state, record.feasible) == ("complete", False)
    told = after._search.study.trials[0].constraints
    assert told == pytest.approx({"clean_accuracy >= 0.9": 0.1, "robust_accuracy >= 0.1": -0.4})


def test_the_reference_waits_for_the_baselines_and_then_stays(tmp_path: Path) -> None:
    ledger = finished(tmp_path)
    records, config = ledger.records(), small_config(objectives=THREE)
    expected = reference_of(records, config)
    assert expected is not None
    assert expected.point["train_seconds"] == 4.0  # twice B1's two seconds
    for count in range(len(records) + 1):
        assert reference_of(records[:count], config) == (None if count < 2 else expected)
    assert reference_of([], small_config()) is None
