"""Every sampler passes the same contract, through the ledger that asks it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from search.config import SweepConfig
from search.ledger import Ledger, open_storage
from search.samplers import SAMPLERS
from tests.search.examples import result, small_config

TRIALS = 14  # TPE draws its first ten at random


def config_of(sampler: str, seed: int = 0) -> SweepConfig:
    search = {"sampler": sampler, "seed": seed, "trials": None if sampler == "grid" else TRIALS}
    return small_config(search={**search, "grid": {"s": 7, "m": 2}} if sampler == "grid" else search)


def suggestions(
    folder: Path, config: SweepConfig, *, at_once: int = 1, fail: frozenset[int] = frozenset()
) -> list[str]:
    """What a search suggests, in order; ``at_once`` trials run side by side, some of them fail."""
    folder.mkdir(exist_ok=True)
    ledger = Ledger(open_storage(f"sqlite:///{folder / 'study.db'}"), config, "new")
    running, suggested = [], []
    while True:
        while len(running) < at_once and (task := ledger.ask()) is not None:
            running.append(task)
            suggested.append(repr(task.setting.parameters))
        if not running:
            return suggested
        task = running.pop(0)
        parameters = task.setting.parameters
        if task.number.isdecimal() and int(task.number) in fail:
            ledger.fail(task.number, "nan")
        else:
            s, m = parameters.get("s", 1.0), parameters.get("m", 0.0)
            ledger.finish(task.number, result(0.99 - (s - 1.3) ** 2, 0.5 - 10 * (m - 0.04) ** 2))


@pytest.mark.parametrize("sampler", SAMPLERS)
class TestSampler:
    def test_same_seed_same_suggestions_other_seed_others(self, sampler: str, tmp_path: Path) -> None:
        first = suggestions(tmp_path / "a", config_of(sampler))
        assert first == suggestions(tmp_path / "b", config_of(sampler))
        if sampler != "grid":
            assert first != suggestions(tmp_path / "c", config_of(sampler, seed=1))

    def test_stays_within_the_space_and_off_its_open_end(self, sampler: str, tmp_path: Path) -> None:
        for text in suggestions(tmp_path, config_of(sampler))[2:]:
            parameters = ast.literal_eval(text)
            assert 1.0 <= parameters["s"] <= 2.0
            assert 0.0 < parameters["m"] <= 0.1

    def test_suggests_no_setting_twice(self, sampler: str, tmp_path: Path) -> None:
        settings = suggestions(tmp_path, config_of(sampler), at_once=3)[2:]
        assert len(set(settings)) == len(settings) == TRIALS

    def test_goes_on_with_failed_trials_among_the_history(self, sampler: str, tmp_path: Path) -> None:
        settings = suggestions(tmp_path, config_of(sampler), fail=frozenset({2, 12}))[2:]
        assert len(settings) == TRIALS + 2


def test_the_same_in_another_process(tmp_path: Path) -> None:
    here = suggestions(tmp_path / "here", config_of("tpe"))
    code = (
        "from pathlib import Path; from tests.search.test_samplers import *; "
        f"print('\\n'.join(suggestions(Path({str(tmp_path / 'there')!r}), config_of('tpe'))))"
    )
    root = Path(__file__).parents[2]
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, timeout=120
    )
    assert there.stdout.splitlines() == here
