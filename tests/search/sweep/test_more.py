"""More units for a finished search."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.config import load
from search.errors import UserError
from search.runs.folder import Run
from search.study import Ledger, open_ledger, open_storage
from search.sweep.more import with_more_units
from tests.search.study.test_confirmation import config, confirmed, drive
from tests.search.study.test_ledger import finish_all

RANDOM: dict[str, Any] = {"sampler": "random", "grid": {}, "trials": 8}


def made(folder: Path, **sections: Any) -> tuple[Run, Ledger]:
    """A run that has not begun."""
    run = Run(folder, config(**sections))
    (folder / "sweep.yaml").write_text(run.config.to_yaml(), encoding="utf-8")
    return run, Ledger(open_storage(run.storage_url), run.config, "new", folder)


def test_a_finished_search_continues_and_prints_the_expected_gain(tmp_path: Path) -> None:
    run, ledger = made(tmp_path, search=RANDOM)
    before = confirmed(drive(ledger), ledger)
    larger, lines = with_more_units(run, 4)
    assert load(tmp_path / "sweep.yaml") == larger.config
    assert (larger.config.budget, larger.config.search.sampler) == (12, "nehvi")
    assert lines[0].startswith("4 more units")
    assert "Robust accuracy: settings differ by less than" in lines[-1]
    with closing(open_ledger(larger)) as reader:
        assert not reader.complete
    again = Ledger(open_storage(larger.storage_url), larger.config, "resume", tmp_path)
    again.adopt()
    units = drive(again)
    assert {unit.role for unit in units[:4]} == {"search"}
    assert again.complete
    assert again.counts().complete >= 12
    fresh = {seed for seeds in confirmed(units, again).values() for seed in seeds}
    assert not fresh & {seed for seeds in before.values() for seed in seeds}


def test_an_unfinished_search_must_be_finished_first(tmp_path: Path) -> None:
    run, _ = made(tmp_path, search=RANDOM)
    with pytest.raises(UserError, match=r"^--more must be used on a finished run, got small with 0 of 8"):
        with_more_units(run, 4)
    assert load(tmp_path / "sweep.yaml") == run.config


def test_a_grid_has_no_more_points(tmp_path: Path) -> None:
    run, ledger = made(tmp_path)
    finish_all(ledger)
    with pytest.raises(UserError, match=r"^--more must be left out for the sampler grid"):
        with_more_units(run, 4)
