from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.hypervolume import draw_hypervolume
from analysis.hypervolume import Reference, hypervolume_trace
from tests.analysis.examples import OBJECTIVES, scattered_run
from tests.analysis.figures.pages import TITLE, check

REFERENCE = Reference(
    {"clean_accuracy": 0.94, "robust_accuracy": 0.3}, {"clean_accuracy": 0.02, "robust_accuracy": 0.1}
)


def test_the_picture_names_the_reference(tmp_path: Path) -> None:
    trace = hypervolume_trace(scattered_run(trials=6), OBJECTIVES, REFERENCE)
    words = check(draw_hypervolume(trace, tmp_path, title=TITLE, reference=REFERENCE))
    assert "clean accuracy from 0.94 in units of 0.02, robust accuracy from 0.3 in units of 0.1" in words


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trace"):
        draw_hypervolume(hypervolume_trace([], OBJECTIVES, REFERENCE), tmp_path, title=TITLE, reference=REFERENCE)
    assert list(tmp_path.iterdir()) == []
