"""Trials of earlier runs: which are taken over, what they count for, and that they are there once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from analysis.frames import to_frame
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.config import SweepConfig, load, parse
from search.errors import UserError
from search.results.standing import Standing, reference_of
from search.runs.folder import Run
from search.runs.provenance import fingerprint, first_difference, problem_settings
from search.study import EarlierTrial, Ledger, open_storage, read_warm_start, with_lasting_paths
from search.study.stopping import Effort
from search.study.trials import Origin, origin_of
from tests.search.examples import result, small_config

DATA: dict[str, Any] = {
    "name": "mnist5k", "sha256": "ab" * 32, "location": "here", "sizes": {"test": 500, "train": 300, "validation": 60}
}  # fmt: skip


def make_run(folder: Path, name: str, search: Mapping[str, Any] | None = None, **changes: Any) -> Run:
    """A run whose units are all new settings, unless its sampler adds seeds."""
    run = Run.plan(small_config(name=name, search={"sampler": "tpe", **(search or {})}, **changes), folder)
    run.create(DATA)
    return run


def new_ledger(run: Run) -> Ledger:
    ledger = Ledger(open_storage(run.storage_url), run.config, "new")
    ledger.adopt()
    return ledger


def accuracies(parameters: dict[str, float]) -> tuple[float, float]:
    return 0.9 + parameters.get("s", 1.0) / 100, 0.5 - parameters.get("m", 0.0)


def turned_round(parameters: dict[str, float]) -> tuple[float, float]:
    clean, robust = accuracies(parameters)
    return 1.8 - clean, 0.5 + 2 * (0.5 - robust)


def finish(ledger: Ledger, most: int = 100, outcome: Callable[..., tuple[float, float]] = accuracies) -> list[str]:
    numbers = []
    while len(numbers) < most and (unit := ledger.ask()) is not None:
        ledger.report(unit.number, {"epoch": 1, "seconds": 1.0, "train_loss": 0.5})
        ledger.finish(unit.number, result(*outcome(dict(unit.candidate.parameters))))
        numbers.append(unit.number)
    return numbers


def finished_run(folder: Path, name: str = "first", **changes: Any) -> Run:
    run = make_run(folder, name, **changes)
    finish(new_ledger(run))
    return run


def warm(run: Run) -> Ledger:
    """The new run's ledger with all that it is to take over."""
    ledger = new_ledger(run)
    ledger.take_over(read_warm_start(run, DATA).trials)
    return ledger


def own(records: list[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.origin is None]


def origin_of_earlier(trial: EarlierTrial) -> Origin:
    return origin_of(trial.row)


SECOND = {"warm_start": ["first"], "trials": 3, "seed": 5}


def test_finished_trials_are_there_and_count_for_the_front_but_not_for_the_budget(tmp_path: Path) -> None:
    first = finished_run(tmp_path)
    earlier = Ledger(open_storage(first.storage_url), first.config, "read")
    second = make_run(tmp_path, "second", search=SECOND)
    ledger = warm(second)
    assert (ledger.counts().imported, ledger.counts().finished, ledger.complete) == (4, 0, False)
    assert finish(ledger) == ["B0", "B1", "4", "5", "6"]
    assert ledger.complete

    records = {record.number: record for record in ledger.records()}
    for number in ("0", "1", "2", "3"):
        before, after = earlier.record(number), records[number]
        assert after.origin == f"first/{number}"
        assert (second.folder / str(after.checkpoint)).resolve() == first.folder / "checkpoints" / number
        assert (second.folder / str(after.outcomes)).resolve() == first.folder / "outcomes" / f"{number}.npz"
        changed = {"origin": None, "checkpoint": before.checkpoint, "outcomes": before.outcomes}
        assert replace(after, **changed) == before  # its numbers, seeds, times
        assert ledger.history(number) == earlier.history(number)
    assert {record.number for record in own(ledger.records())} == {"B0", "B1", "4", "5", "6"}
    assert to_frame(ledger.records())["origin"].dropna().tolist() == [f"first/{number}" for number in range(4)]

    standing = Standing.of(ledger.records(), second.config, lambda: ledger.reference)
    assert (standing.finished, standing.baselines) == (3, 2)
    alone = Standing.of(own(ledger.records()), second.config, lambda: ledger.reference)
    assert standing.hypervolume > alone.hypervolume
    front = pareto_front(ledger.records(), second.config.objectives)
    assert any(record.origin for record in front)
    # The paper's own setting was among them: it is not trained again.
    parameters = [tuple(record.parameters.items()) for record in records.values()]
    assert len(set(parameters)) == len(parameters)


def test_effort_does_not_count_what_another_run_has_paid_for(tmp_path: Path) -> None:
    finished_run(tmp_path)
    ledger = warm(make_run(tmp_path, "second", search=SECOND))
    finish(ledger)
    records = sorted(ledger.records(), key=lambda record: record.finished or 0.0)
    effort = Effort(small_config())
    for record in records:
        effort.add(record)
    assert effort.seconds == 5 * 3.0
    chosen = [record for record in records if record.origin or record.is_baseline]
    imported = Standing.of(chosen, small_config(), lambda: reference_of(chosen, small_config()))
    assert effort.volumes[0] == imported.hypervolume > 0
    assert len(effort.volumes) == 1 + 3


@pytest.mark.parametrize("sampler", ["tpe", "nehvi", "nsga2", "nsga3", "qmc"])
def test_the_search_learns_from_them_and_goes_on_where_it_is_interrupted(sampler: str, tmp_path: Path) -> None:
    first = {"trials": 10, "sampler": "random"}
    finished_run(tmp_path, search=first)
    finish(new_ledger(make_run(tmp_path, "other", search=first)), outcome=turned_round)

    def searched(name: str, earlier: str, most: int) -> list[Mapping[str, float]]:
        run = make_run(tmp_path, name, search={"warm_start": [earlier], "sampler": sampler, "trials": 3})
        finish(warm(run), most)
        while not (ledger := Ledger(open_storage(run.storage_url), run.config, "resume")).complete:
            ledger.adopt()
            assert ledger.warm_started
            finish(ledger, most)
        return [record.parameters for record in own(ledger.records()) if not record.is_baseline]

    whole = searched("whole", "first", 10)
    assert len(whole) == 3
    assert searched("pieces", "first", 1) == whole
    assert (searched("learnt", "other", 10) == whole) == (sampler == "qmc")


def test_an_import_that_is_cut_off_is_completed_and_nothing_is_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)
    run = make_run(tmp_path, "second", search=SECOND)
    ledger = new_ledger(run)
    add, calls = ledger._search.study.add_trial, []

    def dies(trial: Any) -> None:
        calls.append(trial)
        if len(calls) == 3:
            raise OperationalError("commit", None, Exception("killed"))
        add(trial)

    monkeypatch.setattr(ledger._search.study, "add_trial", dies)
    with pytest.raises(OperationalError):
        ledger.take_over(read_warm_start(run, DATA).trials)
    for _ in range(2):
        after = Ledger(open_storage(run.storage_url), run.config, "resume")
        after.adopt()
        after.take_over(read_warm_start(run, DATA).trials)
        assert [record.origin for record in after.records()] == [f"first/{number}" for number in range(4)]
        assert after.warm_started


def test_a_chain_of_runs_keeps_the_first_origin_and_gives_each_setting_once(tmp_path: Path) -> None:
    first = finished_run(tmp_path)
    second = make_run(tmp_path, "second", search=SECOND)
    finish(warm(second))
    third = make_run(
        tmp_path / "elsewhere", "third", search={**SECOND, "warm_start": ["../second", "../first"], "trials": 2}
    )
    warm_start = read_warm_start(third, DATA)
    origins = [f"{origin.run}/{origin.number}" for origin in map(origin_of_earlier, warm_start.trials)]
    assert origins == ["first/0", "first/1", "first/2", "first/3", "second/4", "second/5", "second/6"]
    checkpoint = third.folder / str(origin_of_earlier(warm_start.trials[1]).checkpoint)
    assert checkpoint.resolve() == first.folder / "checkpoints" / "1"


def test_only_complete_trials_of_the_search_that_fit_it_are_taken(tmp_path: Path) -> None:
    first = make_run(tmp_path, "first", search={"trials": 8, "sampler": "random"})
    ledger = new_ledger(first)
    finish(ledger, most=6)
    ledger.prune(ledger.ask().number)  # type: ignore[union-attr]
    ledger.fail(ledger.ask().number, "nan")  # type: ignore[union-attr]
    ledger.ask()  # still at work
    complete = [record for record in ledger.records() if record.state == "complete" and not record.is_baseline]
    inside = [record.number for record in complete if record.parameters["s"] <= 1.6]
    assert 0 < len(inside) < len(complete)
    second = make_run(tmp_path, "second", search=SECOND, space={"s": {"low": 1.0, "high": 1.6}})
    warm_start = read_warm_start(second, DATA)
    assert [origin_of_earlier(trial).number for trial in warm_start.trials] == inside
    assert warm_start.left_out == len(complete) - len(inside)


def test_other_objectives_and_constraints_are_read_from_what_was_measured(tmp_path: Path) -> None:
    finished_run(tmp_path)
    objectives = {"clean_accuracy": "maximize", "pgd2-ce/worst": "maximize"}
    limits = {"robust_accuracy": ">= 0.45"}
    second = make_run(tmp_path, "second", search=SECOND, objectives=objectives, constraints=limits)
    ledger = warm(second)
    for record in ledger.records():
        clean, robust = accuracies(dict(record.parameters))
        assert record.objectives == pytest.approx({"clean_accuracy": clean, "pgd2-ce/worst": robust})
        assert record.violation == pytest.approx(max(0.45 - robust, 0.0))
    unmeasured = {"clean_accuracy": "maximize", "pgd2-dlr/worst": "maximize"}
    third = make_run(tmp_path, "third", search=SECOND, objectives=unmeasured)
    assert (read_warm_start(third, DATA).trials, read_warm_start(third, DATA).left_out) == ([], 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epochs": 2}}, "train.epochs 1 (here 2)"),
        ({"train": {"seed": 1}}, "train.seed 0 (here 1)"),
        ({"train": {"replicates": 3}}, "train.replicates 1 (here 3)"),
        ({"data": {"augment": True}}, "data.augment False (here True)"),
        ({"model": "cnn8"}, "model.name lenet5 (here cnn8)"),
        ({"robustness": {"epsilon": 2.0}}, "robustness.epsilon 1.5 (here 2.0)"),
        ({"robustness": {"views": ["raw"]}}, "robustness.views"),
        ({"robustness": {"attacks": [{"name": "pgd", "steps": 3}]}}, "robustness.attacks"),
    ],
)
def test_a_run_of_another_problem_is_refused_unless_forced(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    finished_run(tmp_path)
    second = make_run(tmp_path, "second", search=SECOND, **changes)
    with pytest.raises(UserError, match=re.escape(message)):
        read_warm_start(second, DATA)
    forced = make_run(tmp_path, "forced", search={**SECOND, "warm_start_force": True}, **changes)
    assert len(read_warm_start(forced, DATA).trials) == 4


def test_other_data_is_refused_and_another_place_of_the_same_is_not(tmp_path: Path) -> None:
    finished_run(tmp_path)
    run = make_run(tmp_path, "second", search=SECOND)
    with pytest.raises(UserError, match=r"data\.sha256"):
        read_warm_start(run, {**DATA, "sha256": "cd" * 32})
    with pytest.raises(UserError, match=r"data\.train_size 300 \(here 299\)"):
        read_warm_start(run, {**DATA, "sizes": {**DATA["sizes"], "train": 299}})
    assert read_warm_start(run, {**DATA, "location": "there"}).trials


def test_a_fingerprint_is_the_problems_alone(tmp_path: Path) -> None:
    def of(config: SweepConfig) -> str:
        return fingerprint(problem_settings(config, DATA))

    same = small_config(
        name="other",
        search={"trials": 9, "seed": 3},
        objectives={"clean_accuracy": "maximize", "train_seconds": "minimize"},
        space={"s": {"low": 1.2, "high": 1.5}},
        data={"root": str(tmp_path)},
        resources={"max_failures": 1},
    )
    assert of(same) == of(small_config()) == of(parse(small_config().model_dump(mode="json")))
    assert len(of(same)) == 64
    ours, theirs = (problem_settings(config, DATA) for config in (same, small_config(train={"epochs": 7})))
    assert first_difference(ours, theirs) == "train.epochs"
    assert first_difference(ours, ours) is None
    run = make_run(tmp_path, "small")
    assert run.manifest()["fingerprint"] == of(load(run.folder / "sweep.yaml"))


def test_a_path_is_made_absolute_and_a_name_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "runs", "first")
    make_run(tmp_path / "old", "zeroth")
    monkeypatch.chdir(tmp_path)
    config = small_config(search={"warm_start": ["first", "old/zeroth", "nowhere"]})
    lasting = with_lasting_paths(config, Path("runs")).search.warm_start
    assert lasting == ["first", str(tmp_path / "old" / "zeroth"), "nowhere"]
    with pytest.raises(UserError, match=r"search\.warm_start\[0\] must be a run .* got nowhere"):
        read_warm_start(make_run(tmp_path / "runs", "new", search={"warm_start": ["nowhere"], "trials": 1}), DATA)
