"""From units to settings: pooled numbers, and the numbers of a confirmation beside them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from analysis.frames import read_frame
from analysis.records import TrialRecord
from search.cli.status import read_status
from search.config import Constraint
from search.results.final import contenders, pooled, settings_of
from search.results.standing import Standing, reference_of
from search.runs.folder import Run
from search.study import open_ledger
from tests.search.examples import small_config
from tests.search.sweep.test_driver import PATIENCE, QUICKSTART, SMALL, arguments, environment, robustfront, wait_for
from trainables.metrics import Direction
from trainables.robustness import Outcomes

BOTH: dict[str, Direction] = {"clean_accuracy": "maximize", "robust_accuracy": "maximize"}
Values = tuple[float, float]


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
    assert six == records[1]
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


def test_contenders_are_on_the_front_of_the_pooled_numbers() -> None:
    records = [complete("0", (0.9, 0.4)), complete("1", (0.89, 0.39)), complete("B0", (0.99, 0.9))]
    assert [record.number for record in contenders(records, BOTH, ())] == ["0"]
    records.append(complete("R0", (0.8, 0.3), extends="0"))
    assert [record.number for record in contenders(records, BOTH, ())] == ["1"]


def confirming(number: str, values: Values, audited: float | None = None, images: int = 200) -> TrialRecord:
    """A unit that confirms setting 5, with its audited accuracy."""
    fields: dict[str, Any] = {"extends": "5", "role": "confirmation", "images": {"robust_accuracy": images}}
    if audited is not None:
        accuracies = {"a/raw": values[1], "audited_accuracy": audited}
        whole = {"clean_accuracy": values[0], "robust_accuracy": values[1], **accuracies}
        fields |= {"accuracies": accuracies, "replicates": (whole,), "verdict": "sound"}
        fields["images"] = {"robust_accuracy": images, "audited_accuracy": images}
    return complete(number, values, **fields)


def test_a_confirmation_changes_no_number_of_the_search() -> None:
    units = [complete("5", (0.9, 0.4)), complete("R0", (0.8, 0.5), extends="5")]
    [alone] = settings_of(units, ())
    [setting] = settings_of([*units, confirming("R1", (0.7, 0.1)), confirming("R2", (0.6, 0.2))], ())
    assert alone.confirmed is None
    assert setting.objectives == alone.objectives
    assert setting.extensions == alone.extensions == ("R0",)
    assert setting.confirmed is not None
    assert setting.confirmed.number == "5"
    assert setting.confirmed.objectives == {
        "clean_accuracy": pytest.approx(0.65),
        "robust_accuracy": pytest.approx(0.15),
    }
    assert setting.confirmed.seeds == (800, 700)
    assert setting.confirmed.verdict is None


def test_the_mean_loss_of_the_audited_networks_is_subtracted_from_the_mean_claim_of_all() -> None:
    units = [
        complete("5", (0.9, 0.9)),
        confirming("R0", (0.9, 0.40), audited=0.38),
        confirming("R1", (0.9, 0.50), audited=0.49),
        confirming("R2", (0.9, 0.30)),
    ]
    [setting] = settings_of(units, ())
    confirmed = setting.confirmed
    assert confirmed is not None
    assert confirmed.verdict == "sound"
    assert confirmed.accuracies["claimed_accuracy"] == pytest.approx(0.4)
    assert confirmed.objectives["robust_accuracy"] == pytest.approx(0.4 - 0.015)
    assert np.mean([each["robust_accuracy"] for each in confirmed.replicates]) == pytest.approx(0.4 - 0.015)
    units[-1] = confirming("R2", (0.9, 0.30), audited=0.285)
    [whole] = settings_of(units, ())
    assert whole.confirmed is not None
    low, high = whole.confirmed.interval("robust_accuracy")
    wider = confirmed.interval("robust_accuracy")
    assert wider.low < low < high < wider.high, "two of three audits leave more open than three"


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
        trial("R0", 0.5, 90.0, extends="B0", seed_index=1),
        trial("R1", 0.9, 6.0, extends="0", seed_index=1),
        trial("R2", 0.1, 99.0, extends="0", seed_index=1000, role="confirmation"),
    ]
    for extension in extensions:
        standing.add(extension)
    # 0 is now at 0.93 and 8 s, 1 is unchanged; confirming units change nothing.
    assert standing.hypervolume == pytest.approx(3 * 1 + 2.5 * 0.2)
    assert (standing.finished, standing.baselines, standing.extensions) == (3, 2, 2)
    assert {name: best.number for name, best in standing.best.items()} == {"clean_accuracy": "1", cost: "0"}
    shuffled = [*records[:2], records[2], *extensions[1:], records[3], extensions[0]]
    again = Standing.of(shuffled, costs, lambda: reference)
    assert again.hypervolume == pytest.approx(standing.hypervolume)


CONFIRMED = (*SMALL, "search.confirmation_seeds=2", "data.confirmation_size=20")


def front_of(folder: Path) -> list[dict[str, Any]]:
    """The exported front, without the commands, which name the folder."""
    front = YAML(typ="safe").load(folder / "runs" / "quickstart" / "pareto.yaml")
    return [{name: value for name, value in entry.items() if name != "command"} for entry in front]


@pytest.mark.slow
def test_a_sweep_killed_in_its_confirmation_ends_with_the_same_numbers(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    halving = "search.halving={first_epoch: 1, reduction_factor: 2, images: 20}"
    settings = (*CONFIRMED, "search.concurrency=1", "train.epochs=4", "data.train_size=1000", halving)
    done = robustfront(tmp_path / "whole", "sweep", str(QUICKSTART), settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[confirmation 1/" in done.stdout

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
    assert {"B0", "B1"} & set(trials["extends"].dropna())
    ledger = open_ledger(Run.open("quickstart", folder / "runs"))
    for number, row in trials[trials["kind"] == "replicates"].iterrows():
        assert (row["state"], row["epochs"]) == ("complete", 4)
        assert not any("robust_estimate" in epoch for epoch in ledger.history(str(number))), "they meet no rung"
    assert any("robust_estimate" in epoch for epoch in ledger.history("0"))

    front = front_of(folder)
    assert front == front_of(tmp_path / "whole")
    for entry in front:
        number = str(entry["number"])
        parts = trials[trials["extends"] == number]
        assert entry["replicates"] == 2
        assert entry["seeds"] == [int(seeds) for seeds in parts["seeds"]]
        assert entry["clean_accuracy"] == pytest.approx(parts["clean_accuracy"].mean())
        assert entry["search_clean_accuracy"] == trials["clean_accuracy"][number]

    final = read_status("quickstart", folder / "runs", reconciled=True).to_json()
    assert final["differences"] == []
    extensions = int((trials["kind"] == "replicates").sum())
    splits = {unit: Outcomes.load(folder / "runs/quickstart/outcomes" / f"{unit}.npz").split for unit in ("0", "R0")}
    assert splits == {"0": "validation", "R0": "confirmation"}
    assert final["confirmation"] == {"complete": extensions, "budget": extensions}

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.metrics["hypervolume"] == pytest.approx(final["hypervolume"])
    children = {run.data.tags["robustfront.extends"] for run in runs if "robustfront.extends" in run.data.tags}
    assert children == set(trials["extends"].dropna())

    # The command of an exported setting gives the search's numbers again.
    *_, command = next(line for line in again.stdout.splitlines() if line.startswith("Train the first")).partition(
        "train"
    )
    trained = robustfront(folder, "train", *command.split(), "--output", "again")
    assert trained.returncode == 0, trained.stderr
    result = json.loads((folder / "again" / "result.json").read_text())
    [unit] = result["units"]
    for name in BOTH:
        assert unit["scores"][name]["value"] == pytest.approx(front[0][f"search_{name}"])
