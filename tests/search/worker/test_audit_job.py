from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trainables.audit
from search.runs.layout import TRAIN_FILE
from search.worker.audit_job import audit_trial
from tests.search.evaluation.test_audit import IMAGES, SMALL
from tests.search.examples import small_config
from trainables.candidate import Candidate
from trainables.data.splits import load_splits
from trainables.trial import run_candidate


@pytest.fixture(autouse=True)
def _small_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainables.audit, "PROFILES", {"quick": SMALL})


def test_splits_that_are_loaded_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gated trial is audited in the worker that has trained it, where every split is already on the device."""
    config = small_config(data={"validation_size": IMAGES}, robustness={"images": 60, "epsilon": 0.5})
    (tmp_path / TRAIN_FILE).write_text(config.to_yaml(), encoding="utf-8")
    splits = load_splits(config.data)
    for _ in run_candidate(config.problem, Candidate("cross-entropy", {}), checkpoints=tmp_path, splits=splits):
        pass

    def read(*_: Any, **__: Any) -> Any:
        pytest.fail("the data was read again")

    monkeypatch.setattr("trainables.data.splits.load_splits", read)
    monkeypatch.setattr("trainables.data.partition.pool.read_pool", read)
    monkeypatch.setattr("trainables.data.partition.digests.prepare", read)
    summary = audit_trial(str(tmp_path), "quick", 1, cuda=False, splits=splits)
    assert summary["profile"] == "quick"
    assert summary["images"] == 60
