"""A finished run searched again on the virtual clock decides as it did: stored runs, and real sweeps."""

from __future__ import annotations

import heapq
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.search import Searcher

from search.config import SweepConfig, load
from search.errors import UserError
from search.results.metrics import rung_values
from search.runs.folder import Run
from search.study import Ledger, make_halving, open_ledger, open_storage, read_warm_start
from search.sweep.tune import LedgerSearcher
from search.worker.trial import CANDIDATE, EPOCH, NUMBER, OWNER, RESULT, SEED, UNITS
from tests.benchmarks.simulator import Simulation, search_again
from tests.search.examples import small_config, unit_result
from tests.search.study.test_warm_start import DATA
from tests.search.sweep.test_driver import QUICKSTART, robustfront

EPOCHS = 9
HALVING = {"reduction_factor": 2, "images": 40}


def results(unit: dict[str, Any], rungs: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """What a worker reports of a unit: its epochs, with estimates at the rungs, and its result."""
    number, parameters = unit[NUMBER], unit[CANDIDATE]["parameters"]
    s, m, luck = parameters.get("s", 1.0), parameters.get("m", 0.0), 0.01 * unit[SEED]
    clean, robust = 0.9 + 0.05 * (2 - s) - m - luck, 0.2 + 0.3 * (s - 1) + 2 * m * (0.1 - m) + luck
    for epoch in range(1, EPOCHS + 1):
        grown = 1 - float(np.exp(-epoch * (0.2 + 3 * m)))
        metrics = {"epoch": epoch, "seconds": 2.0 - m, "train_loss": 1 - grown, "validation_loss": 1.1 - grown}
        metrics |= {"validation_accuracy": clean * grown}
        if epoch in rungs and number.isdecimal():
            metrics |= {"robust_estimate": robust * grown}
        yield {OWNER: 1, EPOCH: json.dumps({number: metrics})}
    values = {"clean_accuracy": clean, "robust_accuracy": robust, "pgd2-ce/worst": robust}
    values |= {"validation_loss": 0.1 + m + luck}
    yield {OWNER: 1, RESULT: json.dumps({number: unit_result(values, seed=unit[SEED])})}


def stored_run(folder: Path, config: SweepConfig, concurrency: int) -> Run:
    """A run that the real searcher has made, asked and told as Tune does, of trials that take some milliseconds."""
    run = Run.plan(config, folder)
    run.create(DATA)
    halving, draws, order = make_halving(config), np.random.default_rng(0), itertools.count()
    ledger = Ledger(open_storage(run.storage_url), config, "new")
    ledger.take_over(read_warm_start(run, DATA).trials)
    searcher = LedgerSearcher(ledger, 1, concurrency, [], lambda _: None, halving)
    running: list[tuple[float, int, str, Iterator[dict[str, Any]]]] = []

    def go_on(trial_id: str, rest: Iterator[dict[str, Any]]) -> None:
        heapq.heappush(running, (time.monotonic() + draws.uniform(0.001, 0.02), next(order), trial_id, rest))

    while True:
        while isinstance(asked := searcher.suggest(trial_id := f"trial-{next(order)}"), dict):
            go_on(trial_id, results(asked[UNITS][0], halving.rungs if halving else ()))
        searcher.check()
        if asked == Searcher.FINISHED:
            return run
        due, _, trial_id, rest = heapq.heappop(running)
        time.sleep(max(0.0, due - time.monotonic()))
        answer = next(rest)
        if EPOCH in answer and searcher.goes_on(trial_id, answer):
            go_on(trial_id, rest)
        else:
            searcher.on_trial_complete(trial_id, answer)


def events(ledger: Ledger, rungs: tuple[int, ...]) -> list[tuple[str, int, bool, dict[str, float]]]:
    """(number, epoch, whether it went on, values) of every trial at every rung, in the order of a real run's clock."""
    reached = []
    for record in ledger.records():
        for epoch in ledger.history(record.number):
            number, finished = record.number, int(epoch["epoch"])
            if finished in rungs and record.kind == "search" and record.origin is None:
                goes_on = record.state != "pruned" or record.epochs > finished
                reached.append((epoch["time"], (number, finished, goes_on, rung_values(epoch) or {})))
    return [event for _, event in sorted(reached, key=lambda row: row[0])]


def assert_it_happens_again(run: Run) -> None:
    before, (ledger, simulation) = open_ledger(run), search_again(run, run.config)
    halving = make_halving(run.config)
    assert halving is not None
    real = events(before, halving.rungs)
    assert [
        (
            decision.number,
            decision.epoch,
            decision.goes_on,
            {name: ledger.history(decision.number)[decision.epoch - 1].get(name) for name in real[0][3]},
        )
        for decision in simulation.decisions
    ] == real
    kept = [
        [
            (
                *(record.number, record.extends, record.seed_index, record.loss, record.parameters),
                *(record.state, record.epochs, record.objectives),
            )
            for record in each.records()
        ]
        for each in (before, ledger)
    ]
    assert kept[0] == kept[1]
    assert [record.accuracies for record in ledger.records()] == [record.accuracies for record in before.records()]
    # Else there would be nothing to see.
    states = {record.state for record in before.records() if not record.is_baseline and record.origin is None}
    assert states == {"complete", "pruned"}


def halved_config(name: str = "small", **search: Any) -> SweepConfig:
    return small_config(
        name=name,
        train={"epochs": EPOCHS, "replicates": 2},
        search={"sampler": "tpe", "trials": 16, "halving": HALVING, **search},
        objectives={"clean_accuracy": "maximize", "robust_accuracy": "maximize", "validation_loss": "minimize"},
        constraints={"pgd2-ce/worst": ">= 0.3"},
    )


@pytest.mark.parametrize(("sampler", "concurrency"), [("tpe", 1), ("tpe", 2), ("nehvi", 1), ("nehvi", 2), ("nsga2", 3)])
def test_a_stored_run_happens_again(sampler: str, concurrency: int, tmp_path: Path) -> None:
    assert_it_happens_again(stored_run(tmp_path, halved_config(sampler=sampler), concurrency))


def run_again(run: Run, *overrides: str) -> tuple[Ledger, Simulation]:
    """As the documentation says it."""
    return search_again(run, load(run.folder / "sweep.yaml", overrides))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return stored_run(tmp_path_factory.mktemp("stored"), halved_config(), 2)


def test_another_search_is_given_what_the_nearest_setting_gave(run: Run) -> None:
    began = time.process_time()
    ledger, simulation = run_again(run, "search.trials=300", "search.sampler=random", "search.seed=1")
    assert time.process_time() - began < 10  # seconds, where a sweep takes hours
    assert ledger.counts().finished in (300, 301)  # two units per setting, one of a stopped one
    assert {decision.goes_on for decision in simulation.decisions} == {True, False}
    before = {record.number: record.objectives for record in open_ledger(run).records() if record.state == "complete"}
    for record in ledger.records():
        assert record.state == "pruned" or record.objectives in before.values()
    assert [ledger.record(number).objectives for number in ("B0", "B1")] == [before["B0"], before["B1"]]
    reference = {"clean_accuracy": 0.0, "robust_accuracy": 0.0, "validation_loss": 1.0}
    trace = simulation.hypervolume_trace(run.config.objectives, reference)
    assert 0 < trace[0][1] < trace[-1][1]


def test_a_run_that_measured_every_epoch_and_stopped_nobody_serves_any_halving(tmp_path: Path) -> None:
    everything = halved_config(halving={**HALVING, "reduction_factor": 1.0001})
    assert everything.rungs is not None
    assert everything.rungs.epochs == tuple(range(1, EPOCHS))
    run = stored_run(tmp_path, everything, 2)
    for override, epochs in (("reduction_factor=3", {1, 3}), ("first_epoch=4", set(range(4, EPOCHS)))):
        ledger, simulation = run_again(run, f"search.halving.{override}")
        assert {decision.epoch for decision in simulation.decisions} == epochs
        assert (ledger.counts().pruned > 0) == (override == "reduction_factor=3")
    ledger, simulation = run_again(run, "search.halving=null")
    assert (ledger.counts().complete, simulation.decisions) == (16, ())
    assert {record.seed_index for record in ledger.records()} == {0, 1}


def test_a_warm_started_run_happens_again(run: Run, tmp_path: Path) -> None:
    assert_it_happens_again(stored_run(tmp_path, halved_config("warm", warm_start=[str(run.folder)], seed=1), 2))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=8", "train must be as in run small, got another; change the search alone"),
        ("robustness.images=30", "robustness must be as in run small, got another; change the search alone"),
        ("search.halving.first_epoch=3", "search.halving must compare where run small did .*, got epochs 3, 6; replay"),
        ("search.halving.steps=3", "search.halving must compare where run small did and as it did, got epochs 1, 2"),
        ("search.warm_start=[other]", "search.warm_start must be empty or as in run small, got .'other'.; leave it"),
    ],
)
def test_what_the_run_did_not_measure_is_refused(override: str, message: str, run: Run) -> None:
    with pytest.raises(UserError, match=message):
        run_again(run, override)


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_real_sweep_happens_again(concurrency: int, tmp_path: Path) -> None:
    settings = (
        "train.epochs=6",
        "data.train_size=500",
        "data.validation_size=200",
        "audit=null",
        "robustness.attacks=[{name: pgd, steps: 3}, {name: pgd, loss: dlr, steps: 3}]",
        "robustness.images=40",
        "search.trials=14",
        "search.halving={reduction_factor: 2, steps: 3, images: 40}",
        f"search.concurrency={concurrency}",
    )
    done = robustfront(tmp_path, "sweep", str(QUICKSTART), settings=settings)
    assert done.returncode == 0, done.stderr
    assert_it_happens_again(Run.open("quickstart", tmp_path / "runs"))
