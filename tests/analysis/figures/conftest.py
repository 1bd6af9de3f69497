"""Small pictures for every test of this folder."""

from __future__ import annotations

import pytest

from analysis.figures import style


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "DOTS_PER_INCH", 40)
