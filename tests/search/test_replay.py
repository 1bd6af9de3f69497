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
from search.ledger import Ledger, open_storage
from search.measurements import make_halving, rung_values
from search.runs import Run
from search.searcher import LedgerSearcher
from search.simulator import search_again
from search.status import open_ledger
from search.trial import EPOCH, NUMBER, OWNER, RESULT, SETTING
from tests.search.examples import result, small_config
from tests.search.test_sweep import QUICKSTART, robustfront

EPOCHS = 9
HALVING = {"reduction_factor": 2, "images": 40}


def results(number: str, parameters: dict[str, float], rungs: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """What a worker says of a setting: its epochs, with estimates at the rungs, and its end. Two replicates."""
    s, m = parameters.get("s", 1.0), parameters.get("m", 0.0)
    clean, robust = 0.9 + 0.05 * (2 - s) - m, 0.2 + 0.3 * (s - 1) + 2 * m * (0.1 - m)
    for epoch in range(1, EPOCHS + 1):
        grown = 1 - float(np.exp(-epoch * (0.2 + 3 * m)))
        metrics = {"epoch": epoch, "seconds": 2.0 - m, "train_loss": 1 - grown, "validation_loss": 1.1 - grown}
        metrics |= {"validation_accuracy": clean * grown, "validation_accuracy[0]": clean * grown - 0.1}
        if epoch in rungs and not number.startswith("B"):
            metrics |= {"robust_estimate": robust * grown, "robust_estimate[0]": robust * grown + 0.1}
        yield {OWNER: 1, EPOCH: json.dumps(metrics)}
    end = result(clean, robust)
    yield {OWNER: 1, RESULT: json.dumps({**end, "objectives": {**end["objectives"], "validation_loss": 0.1 + m}})}


def stored_run(folder: Path, config: SweepConfig, concurrency: int) -> Run:
    """A run that the real searcher has made, asked and told as Tune does, of trials that take some milliseconds."""
    run = Run(folder / config.name, config)
    run.folder.mkdir()
    (run.folder / "sweep.yaml").write_text(config.to_yaml())
    halving, draws, order = make_halving(config), np.random.default_rng(0), itertools.count()
    ledger = Ledger(open_storage(run.storage_url), config, "new")
    searcher = LedgerSearcher(ledger, 1, concurrency, [], lambda _: None, halving)
    running: list[tuple[float, int, str, Iterator[dict[str, Any]]]] = []

    def go_on(trial_id: str, rest: Iterator[dict[str, Any]]) -> None:
        heapq.heappush(running, (time.monotonic() + draws.uniform(0.001, 0.02), next(order), trial_id, rest))

    while True:
        while isinstance(asked := searcher.suggest(trial_id := f"trial-{next(order)}"), dict):
            go_on(trial_id, results(asked[NUMBER], asked[SETTING]["parameters"], halving.rungs if halving else ()))
        if asked == Searcher.FINISHED:
            searcher.check()
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
            if finished in rungs and not record.is_baseline:
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
            (record.number, record.loss, record.parameters, record.state, record.epochs, record.objectives)
            for record in each.records()
        ]
        for each in (before, ledger)
    ]
    assert kept[0] == kept[1]
    assert [record.accuracies for record in ledger.records()] == [record.accuracies for record in before.records()]
    # Else there would be nothing to see.
    states = [record.state for record in before.records() if not record.is_baseline]
    assert states.count("pruned") >= 2
    assert states.count("complete") >= 2
    assert len({epoch for _, epoch, goes_on, _ in real if not goes_on}) >= 2


@pytest.mark.parametrize("concurrency", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_stored_run_happens_again(sampler: str, concurrency: int, tmp_path: Path) -> None:
    config = small_config(
        train={"epochs": EPOCHS, "replicates": 2},
        search={"trials": 16, "sampler": sampler, "halving": HALVING},
        objectives={"clean_accuracy": "maximize", "robust_accuracy": "maximize", "validation_loss": "minimize"},
        constraints={"pgd2-ce/raw": ">= 0.3"},
    )
    assert_it_happens_again(stored_run(tmp_path, config, concurrency))
