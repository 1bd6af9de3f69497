"""The benchmark of many workers: its searches are real, its figures are right, and it runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.workers import Search, Setup, main, rows, run, trial_cost

SMALL = Setup("zdt1", "random", halve=False, workers=1, trials=12, seed=1, on_disk=False)


def test_one_worker_is_always_busy_and_many_find_the_same_at_random_in_less_time() -> None:
    alone, many = run(SMALL), run(replace(SMALL, workers=5))
    assert alone.work == pytest.approx(alone.makespan)
    assert many.work == pytest.approx(alone.work)
    assert many.work / 5 < many.makespan < alone.makespan / 3
    assert many.volume_after(12) == alone.volume_after(12)  # random suggestions do not depend on earlier results
    assert alone.epochs == many.epochs == 12 * 9


def test_a_ledger_on_disk_changes_only_the_costs() -> None:
    setup = replace(SMALL, sampler="tpe", halve=True, workers=3, trials=20)
    in_memory, on_disk = run(setup), run(replace(setup, on_disk=True))
    assert replace(in_memory, cpu={}, wall={}, peak=0.0) == replace(on_disk, cpu={}, wall={}, peak=0.0)
    assert in_memory.epochs < 20 * 9
    assert on_disk.cpu.keys() == {"ask", "report", "end"}
    assert on_disk.cpu["report"] > 0
    assert on_disk.wall["report"] > 0


def test_the_figures_of_a_row() -> None:
    def search(makespan: float, growth: tuple[tuple[float, int, float], ...]) -> Search:
        cpu = {"ask": 10.0, "report": 1.0, "end": 2.0}
        return Search(makespan, 80.0, 80, growth, cpu, {what: 2 * each for what, each in cpu.items()}, 100.0)

    one, four = search(80.0, ((8.0, 1, 0.5), (40.0, 5, 0.9))), search(25.0, ((8.0, 2, 0.5), (20.0, 7, 0.895)))
    assert trial_cost(one.cpu, 10.0) == 10 + 10 * 1 + 2
    assert one.reached(0.6) == (40.0, 5.0)
    assert one.reached(0.95) == (math.inf, math.inf)
    assert (one.volume_at(25.0), four.volume_at(25.0)) == (0.5, 0.895)
    first, second = (line.split() for line in rows({1: [one, one], 4: [four, four]}, 8))
    assert first[:6] == ["1", "100.0%", "1.0x", "50.00", "50.00", "90.00"]
    assert second[:6] == ["4", "80.0%", "3.2x", "0.00", "50.00", "89.50"]
    assert second[6:12] == ["-0.50", "[-0.50,", "-0.50]", "89.50", "7", "2.0x"]
    assert first[9] == "50.00"
    assert second[12:] == ["10.00", "1.00", "2.00", "22.0", "44.0", "45.5", "100"]
    assert len(first) == 12


def test_the_benchmark_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.workers.run_in_subprocess", run)  # a process for each search takes seconds
    output = tmp_path / "result.json"
    assert main(["--trials", "8", "--workers", "1,4", "--seeds", "2", "--samplers", "tpe", "--json", str(output)]) == 0
    results = json.loads(output.read_text(encoding="utf-8"))["results"]
    setups = [result["setup"] for result in results[::2]]
    assert [(setup["halve"], setup["workers"]) for setup in setups] == [
        (False, 1),
        (False, 4),
        (True, 1),
        (True, 4),
    ]
    printed = capsys.readouterr().out
    assert "tpe, halving" in printed
    assert "n = 2 seeds" in printed
    with pytest.raises(SystemExit):
        main(["--seeds", "1"])
    assert "--seeds must be at least 2, got 1" in capsys.readouterr().err
