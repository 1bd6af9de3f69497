"""Further replicates of contenders: whose, which, what becomes of the numbers, and that a death changes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import optuna
import pytest
from ruamel.yaml import YAML

from analysis.frames import read_frame
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.cli.status import read_status
from search.config import Constraint, SweepConfig
from search.results.final import contenders, pooled
from search.results.standing import Standing, reference_of
from search.runs.folder import Run
from search.study import EarlierTrial, Ledger, Unit, open_ledger, open_storage
from search.study.warm_start import new_row
from tests.search.examples import result, small_config
from tests.search.study.test_ledger import Died, new_ledger, reopened, url
from tests.search.sweep.test_driver import PATIENCE, QUICKSTART, SMALL, arguments, environment, robustfront, wait_for
from trainables.candidate import Candidate
from trainables.metrics import Direction

BOTH: dict[str, Direction] = {"clean_accuracy": "maximize", "robust_accuracy": "maximize"}
Values = tuple[float, float]
BEFORE = 2 + 9  # trials of ``config``, until extensions begin


def config(**sections: Any) -> SweepConfig:
    """Two baselines and a grid of nine settings; contenders get 3 seeds in place of 1."""
    search = {"sampler": "grid", "grid": {"s": 3, "m": 3}, "trials": None, "replicates_for_front": 3}
    return small_config(**{**sections, "search": {**search, **sections.get("search", {})}})


def luck(setting: Candidate, replicate: int) -> Values:
    """What a replicate of a setting gives: its seed decides more than the setting does."""
    random = Random(f"{sorted(setting.parameters.items())} {replicate}")
    s = setting.parameters.get("s", 1.0)
    return 0.90 + 0.02 * s + random.gauss(0, 0.02), 0.5 - 0.1 * s + random.gauss(0, 0.1)


def finish(ledger: Ledger, unit: Unit, give: Callable[[Candidate, int], Values] = luck) -> None:
    clean, robust = give(unit.candidate, unit.seed)
    ledger.finish(unit.number, result(clean, robust, seed=unit.seed))


def drive(ledger: Ledger, concurrency: int = 1, random: Random | None = None) -> list[Unit]:
    """Runs a sweep to its end; which of the running trials ends next is random."""
    random, units, running = random or Random(0), list[Unit](), list[Unit]()
    while True:
        while len(running) < concurrency and (unit := ledger.ask()) is not None:
            units.append(unit)
            running.append(unit)
        if not running:
            return units
        finish(ledger, running.pop(random.randrange(len(running))))


def own(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.extends is None]


def brute_force_front(values: dict[str, Values]) -> set[str]:
    def beaten(point: Values) -> bool:
        return any(
            other != point and all(a >= b for a, b in zip(other, point, strict=True)) for other in values.values()
        )

    return {number for number, value in values.items() if not beaten(value)}


def means(records: Iterable[TrialRecord], replicates: dict[str, set[int]]) -> dict[str, Values]:
    """Each search trial's mean over given replicates."""
    by_number = {}
    for record in records:
        if record.kind == "search":
            setting = Candidate("i-sce", record.parameters)
            clean, robust = np.mean([luck(setting, r) for r in sorted(replicates[record.number])], axis=0)
            by_number[record.number] = (float(clean), float(robust))
    return by_number


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_in_the_end_the_front_of_the_means_has_all_its_replicates_and_nothing_was_done_twice(
    seed: int, concurrency: int, tmp_path: Path
) -> None:
    ledger = new_ledger(tmp_path, config())
    units = drive(ledger, concurrency, Random(seed))
    assert ledger.complete
    records = ledger.records()
    replicates: dict[str, set[int]] = {record.number: {0} for record in own(records)}
    for record in records:
        if record.extends is not None:
            assert record.seed_index not in replicates[record.extends], "trained twice"
            replicates[record.extends].add(record.seed_index)
    # A setting that came to the front of the pooled numbers and fell back at once gets no third seed.
    assert {frozenset(seeds) for seeds in replicates.values()} <= {frozenset(range(n)) for n in (1, 2, 3)}
    extended = {number for number, seeds in replicates.items() if len(seeds) == 3}
    assert {(unit.seed, unit.role) for unit in units if not unit.number.startswith("R")} == {(0, "search")}
    assert {unit.role for unit in units if unit.number.startswith("R")} == {"confirmation"}

    first = brute_force_front(means(records, {number: {0} for number in replicates}))
    last = brute_force_front(means(records, replicates))
    assert {"B0", "B1"} | first | last <= extended
    assert last != first, "luck has to matter, or this test shows nothing"
    front = pareto_front(pooled(records, ()), BOTH)
    assert {record.number for record in front} == last
    for record in front:
        assert len(record.replicates) == 3
        assert tuple(record.objectives.values()) == pytest.approx(means([record], replicates)[record.number])


def test_extensions_come_after_the_last_trial_and_in_the_order_of_contenders(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config())
    units = [ledger.ask() for _ in range(BEFORE)]
    assert ledger.ask() is None
    for unit in units[:-1]:
        assert unit is not None
        finish(ledger, unit)
        assert ledger.extensions().budget == 0
    assert ledger.ask() is None, "the last trial may still change the front"
    assert units[-1] is not None
    finish(ledger, units[-1])
    due = [record.number for record in contenders(ledger.records(), BOTH, ()) for _ in range(2)]
    assert due[:4] == ["B0", "B0", "B1", "B1"]
    assert ledger.extensions().budget == len(due)
    begun = [ledger.ask() for _ in due]
    assert [unit.number for unit in begun if unit] == [f"R{index}" for index in range(len(due))]
    assert [ledger.record(unit.number).extends for unit in begun if unit] == due
    assert [unit.seed for unit in begun if unit] == [1, 2] * (len(due) // 2)
    assert [unit.candidate for unit in begun if unit] == [
        Candidate(record.loss, record.parameters)  # type: ignore[arg-type]
        for record in map(ledger.record, due)
    ]
    assert not ledger.complete


def test_the_search_is_what_it_is_without_them(tmp_path: Path) -> None:
    def timeless(records: Iterable[TrialRecord]) -> list[TrialRecord]:
        return [replace(record, started=None, finished=None) for record in own(records)]

    search = {"sampler": "tpe", "grid": {}, "trials": 14}
    ledgers = []
    for name, count in (("with", 2), ("without", None)):
        (tmp_path / name).mkdir()
        ledger = new_ledger(tmp_path / name, config(search={**search, "replicates_for_front": count}))
        drive(ledger)
        ledgers.append(ledger)
    extended, plain = (ledger.records() for ledger in ledgers)
    assert timeless(extended) == timeless(plain)
    assert len(extended) > len(plain)
    counts = ledgers[0].counts()
    assert (counts.complete, counts.budget) == (14, 14)
    assert not any(record.extends for record in plain)


def test_a_new_driver_for_every_extension_goes_on_with_it_and_begins_the_same_next(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = drive(new_ledger(tmp_path / "whole", config()))
    units, ledger = [], new_ledger(tmp_path, config())
    while (unit := ledger.ask()) is not None:
        units.append(unit)
        if unit.role == "confirmation":  # its driver dies
            ledger = reopened(tmp_path, config())
            assert ledger.ask() == unit
        finish(ledger, unit)
    assert units == whole
    assert ledger.complete


@pytest.mark.parametrize("written", [0, 1])
def test_a_row_whose_driver_died_before_it_said_what_it_extends_is_used_by_the_next(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = drive(new_ledger(tmp_path / "whole", config()))
    ledger, done = new_ledger(tmp_path, config()), 0
    for _ in range(BEFORE + 1):
        unit = ledger.ask()
        assert unit is not None
        finish(ledger, unit)
    write = ledger._storage.set_trial_user_attr

    def write_then_die(*arguments: Any) -> None:
        nonlocal done
        if done == written:
            raise Died
        done += 1
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ledger._storage, "set_trial_user_attr", write_then_die)
        with pytest.raises(Died):
            ledger.ask()
    again = reopened(tmp_path, config())
    assert [unit.number for unit in drive(again)] == [unit.number for unit in whole[BEFORE + 1 :]]
    assert len(optuna.load_study(storage=url(tmp_path), study_name="small-replicates").trials) == len(whole) - BEFORE


def test_a_failed_extension_is_replaced_and_counts_as_a_failure(tmp_path: Path) -> None:
    settings = config(resources={"max_failures": 1})
    ledger = new_ledger(tmp_path, settings)
    while (unit := ledger.ask()) is not None and unit.role == "search":
        finish(ledger, unit)
    assert unit is not None
    budget = ledger.extensions().budget
    ledger.fail(unit.number, "its worker process died")
    again = ledger.ask()
    assert again is not None
    assert (again.number, again.candidate, again.seed) == ("R1", unit.candidate, 1)
    assert (ledger.extensions().budget, ledger.extensions().failed, ledger.failures()) == (budget, 1, 1)
    ledger.fail(again.number, "its worker process died")
    assert ledger.ask() is None
    assert ledger.failures_exhausted
    assert not ledger.complete
    assert {record.state for record in pooled(ledger.records(), ())} == {"complete"}
    assert drive(reopened(tmp_path, settings))[0].number == "R2"


def test_more_of_them_may_be_wanted_later_and_none_is_forgotten_when_none_is_wanted(tmp_path: Path) -> None:
    drive(new_ledger(tmp_path, config()))
    more = reopened(tmp_path, config(search={"replicates_for_front": 5}))
    assert not more.complete
    units = drive(more)
    before = {record.number: record for record in more.records()}
    assert [unit.seed for unit in units if before[unit.number].extends == "B0"] == [3, 4]
    for record in pareto_front(pooled(more.records(), ()), BOTH):
        assert len(record.replicates) == 5

    for count in (2, None):
        fewer = reopened(tmp_path, config(search={"replicates_for_front": count}))
        assert fewer.complete
        assert fewer.ask() is None
        assert {record.number: record for record in fewer.records()} == before
    reader = Ledger(open_storage(url(tmp_path), create=False), small_config(search={"trials": 9}), "read")
    assert {record.number: record for record in reader.records()} == before


def test_they_can_be_wanted_of_a_search_that_is_over(tmp_path: Path) -> None:
    drive(new_ledger(tmp_path, config(search={"replicates_for_front": None})))
    reader = Ledger(open_storage(url(tmp_path), create=False), config(), "read")
    assert not reader.complete
    assert reader.extensions().budget >= 3
    ledger = reopened(tmp_path, config())
    assert not ledger.complete
    assert {unit.number[0] for unit in drive(ledger)} == {"R"}
    assert ledger.complete


def test_a_budget_that_is_raised_goes_on_with_the_search_first(tmp_path: Path) -> None:
    search = {"sampler": "random", "grid": {}, "trials": 3}
    drive(new_ledger(tmp_path, config(search=search)))
    kinds = [unit.number[0] for unit in drive(reopened(tmp_path, config(search={**search, "trials": 12})))]
    assert kinds[:9] == ["3", "4", "5", "6", "7", "8", "9", "1", "1"]
    assert set(kinds[9:]) <= {"R"}


def test_a_search_that_a_criterion_has_ended_is_followed_by_them(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path, config(search={"stop": {"device_hours": 1e-9}}))
    units = drive(ledger)
    assert [unit.number for unit in units[:2]] == ["B0", "B1"]
    assert ledger.counts().finished < 9
    assert {"B0", "B1"} <= {record.extends for record in ledger.records()}
    assert ledger.complete


def test_settings_that_miss_a_constraint_are_no_contenders(tmp_path: Path) -> None:
    settings = config(constraints={"clean_accuracy": ">= 0.99"})
    ledger = new_ledger(tmp_path, settings)
    drive(ledger)
    records = ledger.records()
    extended = {record.extends for record in records if record.extends is not None}
    infeasible = {record.number for record in own(records) if not record.feasible and not record.is_baseline}
    assert {"B0", "B1"} <= extended
    assert infeasible
    assert not extended & infeasible


@pytest.mark.parametrize("force", [False, True])
def test_a_trial_that_was_taken_over_is_extended_if_it_is_of_the_same_problem(force: bool, tmp_path: Path) -> None:
    search = {"sampler": "random", "grid": {}, "trials": 2, "warm_start": ["first"], "warm_start_force": force}
    ledger = new_ledger(tmp_path, config(search=search))
    setting = {"loss": "i-sce", "parameters": {"s": 1.5, "m": 0.05}}
    origin = {"run": "first", "identity": "id", "number": "7", "checkpoint": None, "outcomes": None}
    attributes = {"candidate": setting, "result": result(0.999, 0.999), "origin": origin}
    trial = optuna.trial.create_trial(values=[0.999, 0.999], user_attrs=attributes)
    ledger.take_over([EarlierTrial(new_row(trial, config(search=search)))])
    drive(ledger)
    assert ledger.complete
    assert ("0" in {record.extends for record in ledger.records()}) is not force


def complete(number: str, values: Values, **changes: Any) -> TrialRecord:
    """A complete unit; it takes 10 s of training and 4 s of attacks."""
    clean, robust = values
    numbers = {"clean_accuracy": clean, "robust_accuracy": robust, "a/raw": robust}
    fields: dict[str, Any] = {
        "number": number,
        "loss": "i-sce",
        "parameters": {"s": 1.5, "m": 0.05},
        "state": "complete",
        "objectives": {"clean_accuracy": clean, "robust_accuracy": robust},
        "accuracies": {"a/raw": robust},
        "replicates": ({**numbers, "train_seconds": 10.0, "attack_seconds": 4.0},),
        "seeds": (100 + int(1000 * clean),),
        "train_seconds": 10.0,
        "attack_seconds": 4.0,
        "outcomes": f"outcomes/{number}.npz",
    }
    return TrialRecord(**{**fields, **changes})


def test_pooled_numbers_are_those_of_all_units() -> None:
    costly = {"clean_accuracy": 0.9, "train_seconds": 10.0}
    bounds = [Constraint.parse("clean_accuracy", ">= 0.87"), Constraint.parse("attack_seconds", "<= 5")]
    records = [
        complete("5", (0.9, 0.4), objectives=costly, constraints={"clean_accuracy >= 0.87": -0.03}),
        complete("6", (0.8, 0.6)),
        complete("R0", (0.8, 0.5), extends="5"),
        complete("R3", (0.85, 0.3), extends="5"),
        TrialRecord(number="R1", loss="i-sce", parameters={}, state="failed", extends="6", failure="nan"),
        TrialRecord(number="R2", loss="i-sce", parameters={}, state="running", extends="6"),
    ]
    five, six = pooled(records, bounds)
    assert six is records[1]
    assert five.number == "5"
    assert five.outcomes == "outcomes/5.npz"
    assert five.objectives["clean_accuracy"] == pytest.approx((0.9 + 0.8 + 0.85) / 3)
    assert five.objectives["train_seconds"] == pytest.approx(10.0), "per unit, so that settings can be compared"
    assert five.accuracies == {"a/raw": pytest.approx((0.4 + 0.5 + 0.3) / 3)}
    assert five.constraints == {
        "clean_accuracy >= 0.87": pytest.approx(0.02),
        "attack_seconds <= 5": pytest.approx(4 - 5),
    }
    assert not five.feasible
    assert five.seeds == (1000, 900, 950)
    assert (five.train_seconds, five.attack_seconds) == (30.0, 12.0)
    assert five.extensions == ("R0", "R3")
    assert [replicate["clean_accuracy"] for replicate in five.replicates] == [0.9, 0.8, 0.85]
    assert five.interval("clean_accuracy").low < 0.8, "Student's t over three, no longer Wilson over the images"


def test_whoever_comes_to_the_front_of_the_pooled_numbers_is_a_contender_and_so_stays_who_was_there() -> None:
    records = [complete("0", (0.9, 0.4)), complete("1", (0.89, 0.39)), complete("B0", (0.99, 0.9))]
    assert [record.number for record in contenders(records, BOTH, ())] == ["B0", "0"]
    records.append(complete("R0", (0.8, 0.3), extends="0"))
    due = contenders(records, BOTH, ())
    assert [record.number for record in due] == ["B0", "0", "1"]
    assert due[1] is records[0]


def test_the_standing_falls_to_the_pooled_numbers_and_does_not_depend_on_the_order() -> None:
    cost = "train_seconds"
    costs = small_config(objectives={"clean_accuracy": "maximize", cost: "minimize"}, search={"trials": 2})

    def trial(number: str, clean: float, seconds: float, **changes: Any) -> TrialRecord:
        objectives = {"clean_accuracy": clean, cost: seconds}
        replicates = ({**objectives, "robust_accuracy": 0.5, "a/raw": 0.5},)
        changes |= {"objectives": objectives, "train_seconds": seconds, "replicates": replicates}
        return complete(number, (clean, 0.5), **changes)

    records = [
        trial("B0", 0.9, 10.0),
        trial("B1", 0.9, 8.0),
        trial("0", 0.96, 10.0),
        trial("1", 0.94, 10.0),
    ]
    reference = reference_of(records, costs)
    assert reference is not None
    assert reference.point[cost] == 20
    standing = Standing.of(records, costs, lambda: reference)
    # Measured from (0.88, 20 s) in units of (0.02, 10 s).
    assert standing.hypervolume == pytest.approx(4 * 1)
    extensions = [
        trial("R0", 0.5, 90.0, extends="B0", role="confirmation"),
        trial("R1", 0.9, 6.0, extends="0", role="confirmation"),
    ]
    for extension in extensions:
        standing.add(extension)
    # 0 is now at 0.93 and 8 s, 1 as it was.
    assert standing.hypervolume == pytest.approx(3 * 1 + 2.5 * 0.2)
    assert (standing.finished, standing.baselines, standing.extensions) == (2, 2, 2)
    assert {name: best.number for name, best in standing.best.items()} == {"clean_accuracy": "1", cost: "0"}
    again = Standing.of([*records[:2], records[2], extensions[1], records[3], extensions[0]], costs, lambda: reference)
    assert again.hypervolume == pytest.approx(standing.hypervolume)


EXTENDED = (*SMALL, "search.replicates_for_front=3")


def front_of(folder: Path) -> list[dict[str, Any]]:
    """The exported front, without the commands, which name the folder."""
    front = YAML(typ="safe").load(folder / "runs" / "quickstart" / "pareto.yaml")
    return [{name: value for name, value in entry.items() if name != "command"} for entry in front]


@pytest.mark.slow
def test_a_sweep_killed_among_its_extensions_goes_on_to_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    halving = "search.halving={first_epoch: 1, reduction_factor: 2, images: 20}"
    settings = (*EXTENDED, "search.concurrency=1", "train.epochs=4", "data.train_size=1000", halving)
    done = robustfront(tmp_path / "whole", "sweep", str(QUICKSTART), settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[replicates 1/" in done.stdout

    folder = tmp_path / "killed"
    process = subprocess.Popen(
        arguments("sweep", str(QUICKSTART), settings=settings),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        status = wait_for(
            folder,
            lambda status: any(row["number"].startswith("R") and row["epoch"] >= 2 for row in status["running"]),
        )
    finally:
        process.kill()
        process.wait(PATIENCE)
    (orphan,) = status["running"]
    again = robustfront(folder, "resume", "quickstart")
    assert again.returncode == 0, again.stdout + again.stderr

    columns = ["number", "kind", "extends", "state", "epochs", "replicates", "seeds", *BOTH]
    tables = [read_frame(tmp_path / name / "runs" / "quickstart")[columns] for name in ("whole", "killed")]
    assert tables[0].equals(tables[1])
    trials = tables[0].set_index("number")
    assert orphan["number"] in trials.index
    assert set(trials.loc[trials["kind"] == "replicates", "replicates"]) == {1}
    assert {"B0", "B1"} <= set(trials["extends"].dropna())
    ledger = open_ledger(Run.open("quickstart", folder / "runs"))
    for number, row in trials[trials["kind"] == "replicates"].iterrows():
        assert (row["state"], row["epochs"]) == ("complete", 4)
        assert not any("robust_estimate" in epoch for epoch in ledger.history(str(number))), "they meet no rung"
    assert any("robust_estimate" in epoch for epoch in ledger.history("0"))

    front = front_of(folder)
    assert front == front_of(tmp_path / "whole")
    for entry in front:
        number = str(entry["number"])
        parts = trials[(trials.index == number) | (trials["extends"] == number)]
        assert entry["replicates"] == 3
        assert entry["seeds"] == [int(seed) for seeds in parts["seeds"] for seed in seeds.split()]
        weighted = (parts["clean_accuracy"] * parts["replicates"]).sum() / 3
        assert entry["clean_accuracy"] == pytest.approx(weighted)

    final = read_status("quickstart", folder / "runs", reconciled=True).to_json()
    assert final["differences"] == []
    extensions = int((trials["kind"] == "replicates").sum())
    assert final["replicates_for_front"] == {"complete": extensions, "budget": extensions}

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.metrics["hypervolume"] == pytest.approx(final["hypervolume"])
    children = {run.data.tags["robustfront.extends"] for run in runs if "robustfront.extends" in run.data.tags}
    assert children == set(trials["extends"].dropna())

    # The command of an exported setting gives the pooled numbers again.
    *_, command = next(line for line in again.stdout.splitlines() if line.startswith("Train the first")).partition(
        "train"
    )
    assert "--set train.replicates=3" in command
    trained = robustfront(folder, "train", *command.split(), "--output", "again")
    assert trained.returncode == 0, trained.stderr
    result = json.loads((folder / "again" / "result.json").read_text())
    assert [unit["seed_value"] for unit in result["units"]] == front[0]["seeds"]
    for name in BOTH:
        assert np.mean([unit["scores"][name]["value"] for unit in result["units"]]) == pytest.approx(front[0][name])
