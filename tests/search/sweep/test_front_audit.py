"""The audit of a sweep's contenders: what the ledger keeps of it, and how fronts and exports use it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from rich.console import Console

from analysis.export import pareto_entries
from analysis.frames import to_frame
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.cli.status import read_status
from search.config import AuditConfig, Constraint, SweepConfig
from search.errors import UserError
from search.results.final import settings_of, worst_verdict
from search.results.tables import front_table
from search.runs.folder import Run
from search.study import Ledger, read_records
from search.sweep.driver import audit_run
from search.sweep.front_audit import audit_front, due, order_kept
from search.sweep.observers import Progress
from tests.search.examples import result, small_config
from tests.search.sweep.test_driver import PATIENCE, QUICKSTART, SMALL, arguments, environment, robustfront
from trainables.metrics import AUDITED, CLAIMED, ROBUST

QUICK, REFERENCE = AuditConfig(profile="quick"), AuditConfig(profile="reference")
# (clean, robust) by the sweep's own attacks; 0 and 1 are on the front by that, 2 and 3 behind them.
CLAIMS = ((0.98, 0.30), (0.96, 0.50), (0.95, 0.45), (0.94, 0.20))


def audit(verified: float, verdict: str = "sound", profile: str = "quick") -> dict[str, Any]:
    return {"verdict": verdict, "profile": profile, "images": 20, "accuracy": verified}


@pytest.fixture
def config() -> SweepConfig:
    return small_config(search={"trials": len(CLAIMS)})


@pytest.fixture
def ledger(config: SweepConfig) -> Ledger:
    ledger = Ledger(InMemoryStorage(), config, "new")
    ledger.adopt()
    claims = iter(CLAIMS)
    while (task := ledger.ask()) is not None:
        clean, robust = (0.97, 0.25) if task.number.startswith("B") else next(claims)
        ledger.finish(task.number, result(clean, robust))
    return ledger


def numbers(records: list[TrialRecord]) -> list[str]:
    return [record.number for record in records]


def test_the_ledger_keeps_an_audit_beside_what_was_claimed(ledger: Ledger) -> None:
    before = ledger.record("1")
    ledger.audited("1", audit(0.35, "masked"))
    record = ledger.record("1")
    assert record.objectives == before.objectives
    assert record.accuracies == {**before.accuracies, AUDITED: 0.35}
    assert record.verdict == "masked"
    assert record.interval(AUDITED) != record.interval(ROBUST)
    ledger.adopt()  # from the storage anew
    assert ledger.record("1") == record
    row = to_frame(ledger.records()).set_index("number").loc["1"]
    assert (row[AUDITED], row["verdict"], row[ROBUST], row[f"images_{AUDITED}"]) == (0.35, "masked", 0.5, 20)
    assert ledger.record("0").verdict is None


def test_behind_a_gate_the_sampler_is_told_what_holds_and_the_records_keep_both(config: SweepConfig) -> None:
    ledger = Ledger(InMemoryStorage(), config, "new")
    ledger.adopt()
    while (task := ledger.ask()) is not None:
        ledger.finish(task.number, {**result(0.95, 0.6), "audit": audit(0.35, "masked")})
    [values] = {tuple(trial.values) for _, trial in ledger.trials()}
    assert values == (0.95, 0.35)
    for record in ledger.records():
        assert (record.objectives[ROBUST], record.accuracies[AUDITED], record.verdict) == (0.6, 0.35, "masked")
    assert due(Run(Path("small"), config), ledger, QUICK) == []


def test_what_comes_to_the_front_is_due_until_all_of_it_is_verified(ledger: Ledger, config: SweepConfig) -> None:
    run = Run(Path("small"), config)
    assert set(numbers(due(run, ledger, QUICK))) == {"0", "1", "B0", "B1"}
    for number in ("0", "B0", "B1"):
        ledger.audited(number, audit(0.25))
    ledger.audited("1", audit(0.30, "masked"))
    assert numbers(due(run, ledger, QUICK)) == ["2"]  # which claims more than holds of 1
    ledger.audited("2", audit(0.40))
    assert due(run, ledger, QUICK) == []
    assert set(numbers(due(run, ledger, REFERENCE))) == {"0", "1", "2", "B0", "B1"}
    ledger.audited("2", audit(0.40, profile="reference"))
    assert "2" not in numbers(due(run, ledger, QUICK))
    assert "2" not in numbers(due(run, ledger, REFERENCE))


def test_only_the_first_seeds_of_a_setting_are_due_if_the_audit_says_so() -> None:
    config = small_config(train={"replicates": 3}, search={"trials": 3, "baselines": False})
    ledger = Ledger(InMemoryStorage(), config, "new")
    ledger.adopt()
    while (task := ledger.ask()) is not None:
        ledger.finish(task.number, result(0.95, 0.5, seed=task.seed))
    run = Run(Path("small"), config)
    assert numbers(due(run, ledger, QUICK)) == ["0", "R0", "R1"]  # and no baselines
    assert numbers(due(run, ledger, AuditConfig(seeds=2))) == ["0", "R0"]
    ledger.audited("0", audit(0.4))
    assert numbers(due(run, ledger, AuditConfig(seeds=2))) == ["R0"]


def test_a_sweep_that_confirms_audits_the_confirming_networks(tmp_path: Path) -> None:
    search = {"trials": len(CLAIMS), "confirmation_seeds": 3, "most_confirmed": 1}
    config = small_config(data={"confirmation_size": 20}, search=search)
    ledger, claims = Ledger(InMemoryStorage(), config, "new"), iter(CLAIMS)
    ledger.adopt()
    while (task := ledger.ask()) is not None:
        of_search = task.role == "search" and not task.number.startswith("B")
        ledger.finish(task.number, result(*(next(claims) if of_search else (0.97, 0.25)), seed=task.seed))
    run = Run(tmp_path, config)
    [baseline, setting] = dict.fromkeys(record.extends for record in ledger.records() if record.extends)
    audited = [ledger.record(record.number).extends for record in due(run, ledger, QUICK)]
    assert sorted(map(str, audited)) == sorted([str(baseline), str(setting)] * 2), "two of three networks of each"
    assert len(set(audited[:2])) == 2, "one of each before a second of any"
    assert len(due(run, ledger, AuditConfig(seeds=1))) == 2
    for record in due(run, ledger, QUICK):
        ledger.audited(record.number, audit(0.2))
    assert due(run, ledger, QUICK) == []
    [confirmed] = [each.confirmed for each in settings_of(ledger.records(), ()) if each.number == setting]
    assert confirmed is not None
    assert (confirmed.verdict, confirmed.objectives[ROBUST]) == ("sound", pytest.approx(0.2))


def test_audits_ask_ray_for_their_own_processors_and_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AuditConfig(cpus=3, gpus=0.0)
    config = small_config(
        search={"trials": 1}, data={"validation_size": 500}, resources={"cpus_per_trial": 1, "gpus_per_trial": 1.0}
    ).model_copy(update={"audit": settings})
    ledger = Ledger(InMemoryStorage(), config, "new")
    ledger.adopt()
    while (task := ledger.ask()) is not None:
        ledger.finish(task.number, result(0.9, 0.3))
    started: list[tuple[dict[str, float], tuple[Any, ...]]] = []

    def remote(**resources: float) -> Any:
        def start(*arguments: Any) -> str:
            started.append((resources, arguments[1:]))
            return f"reference {len(started)}"

        return lambda _: SimpleNamespace(remote=start)

    monkeypatch.setattr("ray.remote", remote)
    monkeypatch.setattr("ray.wait", lambda references, timeout: (references[:1], references[1:]))  # noqa: ARG005
    monkeypatch.setattr("ray.get", lambda _: audit(0.2))
    progress = Progress(config, Console(file=io.StringIO()), quiet=True)
    assert audit_front(Run(Path("small"), config), ledger, settings, progress, (), ()) == 0
    assert started == [({"num_cpus": 3, "num_gpus": 0.0}, ("quick", 3, False))] * 3


def test_fronts_and_exports_use_the_verified_number_and_show_who_lost(ledger: Ledger, config: SweepConfig) -> None:
    run = Run(Path("small"), config)
    for number, holds, verdict in (("0", 0.30, "sound"), ("1", 0.28, "masked"), ("2", 0.40, "sound")):
        ledger.audited(number, audit(holds, verdict))
    settings = settings_of(ledger.records(), run.config.bounds)
    front = pareto_front(settings, config.objectives)
    assert numbers(front) == ["0", "2"]
    entry = pareto_entries(front, config.objectives, "sweep.yaml")[1]
    assert (entry["number"], entry[ROBUST], entry[CLAIMED], entry["verdict"]) == (2, 0.40, 0.45, "sound")
    assert entry["robust_accuracy_interval"][0] < 0.40 < entry["robust_accuracy_interval"][1]
    console = Console(width=120, file=io.StringIO())
    console.print(front_table(run, settings, front))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "-1 " in text
    assert "masked" in text
    assert "50.0" in text


def test_the_order_of_claims_is_compared_with_that_of_what_holds_once_ten_random_settings_are_audited() -> None:
    config = small_config(search={"sampler": "random", "trials": 14})
    run, ledger = Run(Path("small"), config), Ledger(InMemoryStorage(), config, "new")
    ledger.adopt()
    while (task := ledger.ask()) is not None:
        count = 0 if task.number.startswith("B") else int(task.number)
        ledger.finish(task.number, result(0.9, 0.2 + 0.02 * count))
    records = due(run, ledger, AuditConfig(random=12))
    assert len(records) in (14, 15)  # the best one of all may be among those drawn
    assert numbers(records) == numbers(due(run, ledger, AuditConfig(random=12)))
    for record in records[:4]:
        ledger.audited(record.number, audit(record.objectives[ROBUST] - 0.1))
    assert order_kept(run, ledger, 12) is None
    for record in records:
        ledger.audited(record.number, audit(record.objectives[ROBUST] - 0.1))
    line = order_kept(run, ledger, 12)
    assert line is not None
    assert "12 of them drawn at random, have a rank correlation of 1.00" in line
    assert "low" not in line
    for record in records:
        ledger.audited(record.number, audit(0.6 - record.objectives[ROBUST]))
    turned = order_kept(run, ledger, 12)
    assert turned is not None
    assert "-1.00" in turned
    assert "That is low" in turned


def test_a_constraint_on_robust_accuracy_is_judged_by_what_holds(ledger: Ledger) -> None:
    bounds = (Constraint.parse(ROBUST, ">= 0.3"), Constraint.parse("clean_accuracy", ">= 0.9"))
    ledger.audited("1", audit(0.28, "masked"))
    [setting] = settings_of([ledger.record("1")], bounds)
    assert setting.constraints == {"robust_accuracy >= 0.3": pytest.approx(0.02)}


def test_replicates_that_were_audited_in_part_are_not_verified(ledger: Ledger) -> None:
    ledger.audited("0", audit(0.2))
    own = ledger.record("0")
    further = TrialRecord(
        number="R0", loss=own.loss, parameters=own.parameters, state="complete", objectives=own.objectives,
        accuracies={name: value for name, value in own.accuracies.items() if name != AUDITED},
        replicates=({name: value for name, value in own.replicates[0].items() if name != AUDITED},),
        seeds=(7,), images=own.images, extends="0",
    )  # fmt: skip
    [setting] = settings_of([own, further], ())
    assert setting.verdict is None
    assert AUDITED not in setting.accuracies
    assert worst_verdict(["sound", "suspicious"]) == "suspicious"
    assert worst_verdict(["masked", "suspicious"]) == "masked"


@pytest.mark.slow
def test_a_sweep_interrupted_in_its_audit_goes_on_with_it_and_audits_nothing_twice(tmp_path: Path) -> None:
    settings = [*SMALL, "data.validation_size=500", "robustness.images=500", "search.trials=1"]
    settings += ["audit={profile: quick, minutes: 30}", "robustness.epsilon=4"]  # where most images fall at once
    run = tmp_path / "runs" / "quickstart"
    process = subprocess.Popen(
        arguments("sweep", str(QUICKSTART), settings=settings), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("audit: "):
                break
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, output
    audited = {path.parent.name: path.stat().st_mtime_ns for path in run.glob("audits/*/audit.json")}
    assert audited
    assert read_status("quickstart", tmp_path / "runs", reconciled=True).to_json()["differences"] == []

    done = robustfront(tmp_path, "resume", "quickstart")
    assert done.returncode == 0, done.stderr
    for number, when in audited.items():
        assert (run / "audits" / number / "audit.json").stat().st_mtime_ns == when
    opened = Run.open("quickstart", tmp_path / "runs")
    records = read_records(opened)
    front = pareto_front(settings_of(records, opened.config.bounds), opened.config.objectives)
    assert all(record.verdict for record in front)
    assert all(record.verdict for record in records if record.is_baseline)
    assert read_status("quickstart", tmp_path / "runs", reconciled=True).to_json()["differences"] == []
    exported = json.loads(robustfront(tmp_path, "pareto", "quickstart", "--format", "json").stdout)
    assert {entry["verdict"] for entry in exported} <= {"sound", "masked", "suspicious"}
    assert all(entry[ROBUST] <= entry[CLAIMED] for entry in exported)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robustfront")
    assert experiment is not None
    shown = {
        run.data.tags.get("robustfront.number"): run.data for run in client.search_runs([experiment.experiment_id])
    }
    for record in records:
        assert shown[record.number].tags.get("robustfront.verdict") == record.verdict
        assert shown[record.number].metrics.get(AUDITED) == record.accuracies.get(AUDITED)

    again = robustfront(tmp_path, "audit", "quickstart")
    assert again.returncode == 0, again.stderr
    assert "audit: " not in again.stdout


def test_what_is_wrong_with_the_audit_of_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data.validation_size must be at least 500 for audit.profile quick, got 60"):
        small_config(audit={"profile": "quick"})
    few = r"^RUN must have at least 500 validation images for --profile quick, got small with 60; start"
    with pytest.raises(UserError, match=few):
        audit_run(Run(tmp_path / "small", small_config()), "quick", 0, Console(quiet=True))
    missing = robustfront(tmp_path, "audit", "nothing")
    assert missing.returncode == 2
    assert "CHECKPOINT must be" in missing.stdout + missing.stderr
