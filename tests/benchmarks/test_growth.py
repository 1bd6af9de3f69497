"""The growth benchmark measures whole searches, and its table compares them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.growth import REPOSITORY, Cost, ask_seconds, measure, table


def test_a_search_driven_directly_is_measured_to_its_end() -> None:
    cost = measure("random", 6, direct=True)
    assert (cost.sampler, cost.trials) == ("random", 6)
    assert cost.cpu > 0
    assert cost.last > 0
    assert cost.hypervolume > 0


def test_the_table_compares_each_sampler_with_its_smallest_size() -> None:
    def cost(sampler: str, trials: int, milliseconds: float) -> Cost:
        return Cost(sampler, trials, milliseconds, 2 * milliseconds, 1.0, 200.0, 0.5)

    lines = table([cost("tpe", 100, 30.0), cost("tpe", 1000, 45.0), cost("random", 1000, 10.0)]).splitlines()[1:]
    assert [line.split()[-2:] for line in lines] == [["1.00x", "1.00x"], ["1.50x", "1.50x"], ["1.00x", "1.00x"]]


def test_a_single_ask_of_a_sampler_is_timed_after_a_search_by_another() -> None:
    assert 0 < ask_seconds("tpe", 12) < ask_seconds("nehvi", 24)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    output = tmp_path / "growth.json"
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--trials", "4,8", "--samplers", "random"]
    subprocess.run([*command, "--json", str(output)], cwd=REPOSITORY, check=True, timeout=500)
    assert [cost["trials"] for cost in json.loads(output.read_text(encoding="utf-8"))] == [4, 8]
