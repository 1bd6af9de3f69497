"""Units: each setting with each seed is a row of its own, and the sampler sees one entry per setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from search.config import SweepConfig
from search.results.final import settings_of
from search.results.standing import Standing, reference_of
from search.runs.folder import Run
from search.study import Ledger, Unit, open_storage, read_warm_start
from search.study.due import FIRST_CONFIRMATION_SEED
from search.study.trials import origin_of
from tests.search.examples import result, small_config
from tests.search.study.test_ledger import new_ledger, reopened
from tests.search.study.test_warm_start import DATA
from trainables.candidate import Candidate
from trainables.metrics import AUDITED, CLAIMED, ROBUST

LIMIT = {"clean_accuracy": ">= 0.89"}


def config(**sections: Any) -> SweepConfig:
    """Two baselines and a search of 12 units, two seeds per setting."""
    search = {"trials": 12, "sampler": "random", **sections.pop("search", {})}
    train = {"replicates": 2, **sections.pop("train", {})}
    return small_config(search=search, train=train, constraints=LIMIT, **sections)


def accuracies(unit: Unit) -> tuple[float, float]:
    s, m = unit.candidate.parameters.get("s", 1.0), unit.candidate.parameters.get("m", 0.0)
    return round(0.9 + 0.02 * (s - 1) - 0.03 * unit.seed, 4), round(0.5 - m + 0.05 * unit.seed, 4)


def finish(ledger: Ledger, unit: Unit, **more: Any) -> None:
    ledger.finish(unit.number, {**result(*accuracies(unit), seed=unit.seed), **more})


def run_down(ledger: Ledger) -> list[Unit]:
    units = []
    while (unit := ledger.ask()) is not None:
        units.append(unit)
        finish(ledger, unit)
    return units


def audit(holds: float, profile: str = "quick") -> dict[str, Any]:
    return {"verdict": "masked", "profile": profile, "images": 20, "accuracy": holds}


def test_the_further_seeds_of_a_setting_come_before_a_new_setting_and_count_for_the_budget(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    units = run_down(ledger)
    names = ["B0", "B1", "R0", "R1", "0", "R2", "1", "R3", "2", "R4", "3", "R5", "4", "R6", "5", "R7"]
    assert [unit.number for unit in units] == names
    records = {record.number: record for record in ledger.records()}
    assert [records[f"R{index}"].extends for index in range(8)] == ["B0", "B1", *"012345"]
    for unit in units:
        record = records[unit.number]
        assert (record.seed_index, record.role) == (unit.seed, unit.role) == (int(unit.number[0] == "R"), "search")
        assert record.parameters == records[record.extends or unit.number].parameters
        assert len(record.replicates) == 1
        assert record.outcomes == f"outcomes/{unit.number}.npz"
    counts = ledger.counts()
    assert (counts.complete, counts.running, counts.budget) == (12, 0, 12)
    assert ledger.complete
    standing = Standing.of(ledger.records(), config(), lambda: ledger.reference)
    assert (standing.finished, standing.baselines) == (12, 2)


def test_with_many_at_once_every_setting_still_gets_all_its_seeds_within_the_budget(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    running = [unit for _ in range(9) if (unit := ledger.ask()) is not None]
    assert [unit.number for unit in running] == ["B0", "B1", *"012345"], "six settings of two seeds spend the budget"
    while running:
        finish(ledger, running.pop(0))
        while len(running) < 9 and (unit := ledger.ask()) is not None:
            running.append(unit)
    assert ledger.counts().complete == 12
    assert ledger.complete


def test_a_stopped_setting_gets_no_further_seed(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    while (unit := ledger.ask()) is not None:
        if unit.number == "1":
            ledger.prune(unit.number)
        else:
            finish(ledger, unit)
    assert "1" not in {record.extends for record in ledger.records()}
    assert ledger.complete


def test_the_sampler_sees_one_entry_per_setting_with_its_pooled_value(tmp_path: Path) -> None:
    settings = config(search={"sampler": "tpe"})
    ledger = new_ledger(tmp_path, settings)
    for _ in range(2 + 2 + 3):  # baselines and their second seeds, then 0, R2, 1
        unit = ledger.ask()
        assert unit is not None
        finish(ledger, unit)
    first, second = ledger._lookback.entries(None)
    clean, robust = accuracies(Unit("0", Candidate("i-sce", ledger.record("0").parameters)))
    assert first.values == pytest.approx([clean - 0.015, robust + 0.025])
    assert first.constraints == {"clean_accuracy >= 0.89": pytest.approx(0.89 - clean + 0.015)}
    assert second is ledger._search[1], "one unit is what it is"
    assert ledger._search[0].values == [clean, robust], "the row keeps its own"
    for most in (None, 1):
        assert [entry.number for entry in ledger._lookback.entries(most)][-1] == 1
    again = reopened(tmp_path, settings)
    assert again._lookback.entries(None)[0].values == first.values


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_search_with_several_seeds_that_is_resumed_suggests_what_an_uninterrupted_one_does(
    sampler: str, tmp_path: Path
) -> None:
    settings = config(search={"sampler": sampler, "trials": 26})
    (tmp_path / "whole").mkdir()
    whole = run_down(new_ledger(tmp_path / "whole", settings))
    ledger, units = new_ledger(tmp_path, settings), list[Unit]()
    while (unit := ledger.ask()) is not None:
        units.append(unit)
        finish(ledger, unit)
        if len(units) % 5 == 0:
            ledger = reopened(tmp_path, settings)
    assert units == whole


def test_a_seed_can_be_asked_for_at_any_time_and_is_handed_out_once(tmp_path: Path) -> None:
    settings = small_config(search={"sampler": "random", "trials": 4})
    ledger = new_ledger(tmp_path, settings)
    for _ in range(3):
        unit = ledger.ask()
        assert unit is not None
        finish(ledger, unit)
    ledger.extend("0", 3, "search")
    ledger.extend("0", 3, "search")
    ledger.extend("B1", FIRST_CONFIRMATION_SEED, "confirmation")
    ledger = reopened(tmp_path, settings)  # the request outlives its driver
    units = run_down(ledger)
    assert [(unit.number, unit.seed, unit.role) for unit in units[:2]] == [
        ("R0", 3, "search"),
        ("R1", FIRST_CONFIRMATION_SEED, "confirmation"),
    ]
    assert units[0].candidate == Candidate("i-sce", ledger.record("0").parameters)
    assert [record.extends for record in ledger.records()[-2:]] == ["0", "B1"]
    assert ledger.counts().finished == 4, "a further seed for the search is one of its units"
    with pytest.raises(ValueError, match="number must be a setting's own, got R0"):
        ledger.extend("R0", 1, "search")
    with pytest.raises(ValueError, match="seed must be at least 1, got 0"):
        ledger.extend("0", 0, "search")


def gated() -> SweepConfig:
    robustness = {**small_config().to_document()["robustness"], "gate": "audit"}
    return small_config(data={"validation_size": 500}, robustness=robustness, search={"trials": 2, "sampler": "random"})


def test_the_verdict_of_a_gated_trial_outlives_a_driver_that_dies_right_after_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger(tmp_path, gated())
    unit = ledger.ask()
    assert unit is not None

    class Died(Exception):
        pass

    def die(*_: object) -> None:
        raise Died

    monkeypatch.setattr(ledger, "_tell", die)
    monkeypatch.setattr(ledger, "audited", die)
    with pytest.raises(Died):
        finish(ledger, unit, audit=audit(0.1))
    again = reopened(tmp_path, gated())
    record = again.record(unit.number)
    assert again._find(unit.number)[1].values == [0.9, 0.1], "Optuna has the verified number"
    assert (record.accuracies[AUDITED], record.verdict) == (0.1, "masked"), "and so has the record"
    assert again.audits()[unit.number]["profile"] == "quick"
    again.audited(unit.number, audit(0.05, profile="reference"))
    assert again.record(unit.number).accuracies[AUDITED] == 0.05, "a stronger audit takes precedence"
    assert reopened(tmp_path, gated()).audits()[unit.number]["profile"] == "reference"


def test_trials_that_are_taken_over_bring_their_audits_and_their_seeds(tmp_path: Path) -> None:
    first = Run.plan(config(name="first", search={"trials": 4}), tmp_path)
    first.create(DATA)
    earlier = Ledger(open_storage(first.storage_url), first.config, "new")
    while (unit := earlier.ask()) is not None:
        finish(earlier, unit, **({"audit": audit(0.1)} if unit.number in ("0", "R2") else {}))
    earlier.audited("1", audit(0.3, profile="reference"))
    second = Run.plan(config(name="second", search={"trials": 4, "warm_start": ["first"]}), tmp_path)
    second.create(DATA)
    for _ in range(2):  # a driver may die in the middle
        ledger = Ledger(open_storage(second.storage_url), second.config, "resume")
        ledger.adopt()
        ledger.take_over(read_warm_start(second, DATA).trials)
    records = {record.number: record for record in ledger.records()}
    assert {number: (record.origin, record.extends, record.seed_index) for number, record in records.items()} == {
        "0": ("first/0", None, 0),
        "1": ("first/1", None, 0),
        "R0": ("first/R2", "0", 1),
        "R1": ("first/R3", "1", 1),
    }
    assert (records["0"].verdict, records["R0"].verdict, records["1"].verdict) == ("masked", "masked", "masked")
    audited, claimed = settings_of(records.values(), second.config.bounds)
    assert (audited.objectives[ROBUST], audited.accuracies[CLAIMED] > 0.1) == (pytest.approx(0.1), True)
    assert CLAIMED not in claimed.accuracies, "only one of its two seeds was audited"
    assert ledger.audits()["1"]["profile"] == "reference"
    assert ledger.counts().finished == 0
    units = run_down(ledger)
    assert ledger.counts().finished == 4
    assert {unit.number for unit in units} >= {"B0", "B1", "2", "3"}
    third = Run.plan(config(name="third", search={"trials": 2, "warm_start": ["second"]}), tmp_path)
    third.create(DATA)
    chained = read_warm_start(third, DATA).trials
    assert [origin_of(trial.row).run for trial in chained] == ["first", "first", "second", "second"]
    assert [origin_of(trial.extensions[0]).number for trial in chained[:2]] == ["R2", "R3"]


def test_a_half_made_row_is_finished_although_orphans_are_handed_out_before_it(tmp_path: Path) -> None:
    settings = small_config(search={"sampler": "qmc", "trials": 6})
    (tmp_path / "whole").mkdir()
    whole = run_down(new_ledger(tmp_path / "whole", settings))
    ledger = new_ledger(tmp_path, settings)
    for _ in range(5):  # 1 and 2 stay unfinished
        unit = ledger.ask()
        assert unit is not None
        if unit.number not in ("1", "2"):
            finish(ledger, unit)
    ledger._search.study.ask()  # the driver dies within the ask of row 3
    again = reopened(tmp_path, settings)
    units = run_down(again)
    assert [unit.number for unit in units] == ["1", "2", "3", "4", "5"]
    assert units == whole[3:]
    assert {trial.state for trial in again._search.study.trials} == {TrialState.COMPLETE}


class Tuned(SweepConfig):
    """A stand-in for a space with a parameter that is not the loss's: the baselines take over the value of m."""

    def baselines_for(self, candidate: Candidate) -> tuple[Candidate, ...]:
        return (Candidate("i-sce", {"s": 1.0, "m": candidate.parameters["m"]}),)


def test_contenders_are_compared_with_baselines_at_their_own_values_and_seeds(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 6, "confirmation_seeds": 1}
    plain = small_config(data={"confirmation_size": 20}, search=search)
    settings = Tuned.model_validate_json(plain.model_dump_json())
    ledger = new_ledger(tmp_path, settings)
    units: list[Unit] = []
    while (unit := ledger.ask()) is not None:
        units.append(unit)
        finish(ledger, unit)
        if unit.number == "B3":
            ledger = reopened(tmp_path, settings)
    assert ledger.complete
    records = {record.number: record for record in ledger.records()}
    assert [unit.number for unit in units[:8]] == ["B0", "B1", "0", "1", "2", "3", "4", "5"], "the search comes first"
    confirmed = {record.extends for record in records.values() if record.role == "confirmation"}
    own = [records[number] for number in confirmed if number is not None and not number.startswith("B")]
    assert own
    tuned = [record for record in records.values() if record.is_baseline][2:]
    assert {record.parameters["m"] for record in tuned} == {record.parameters["m"] for record in own}
    for record in (*tuned, *own):
        seeds = [each.seed_index for each in records.values() if each.extends == record.number]
        assert seeds == [FIRST_CONFIRMATION_SEED]
    standing = Standing.of(records.values(), settings, lambda: reference_of(records.values(), settings))
    assert (standing.baselines, standing.finished) == (2, 6)
    assert not np.isnan(standing.hypervolume)


def test_a_baseline_at_the_problems_own_values_is_the_baseline() -> None:
    rate = {"low": 0.001, "high": 0.01, "log": True}
    settings = small_config(space={"s": {"low": 1.0, "high": 2.0}, "train.learning_rate": rate})
    own = settings.train.learning_rate
    at_own, elsewhere = (
        settings.baselines_for(Candidate("i-sce", {"s": 1.5, "train.learning_rate": rate})) for rate in (own, 0.005)
    )
    assert at_own == settings.baselines
    assert [baseline.parameters["train.learning_rate"] for baseline in elsewhere] == [0.005, 0.005]
