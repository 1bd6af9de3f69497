"""Example data for reports: runs with planted effects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any

from analysis.records import TrialRecord
from analysis.statistics import wilson_interval
from search.report.data import ReportData
from search.results.answer import answer_of
from search.results.writing import RunData
from search.runs.folder import Run
from search.runs.provenance import make_manifest
from search.study import importances
from tests.analysis.figures.test_audit import document

DATA = {"name": "mnist5k", "sha256": "0" * 64, "location": "here", "sizes": {"train": 300, "validation": 60}}


def data_of(run: Run, records: Sequence[TrialRecord], **changes: Any) -> ReportData:
    """The data for a report of these records. Writes a manifest into the run's folder."""
    (run.folder / "manifest.json").write_text(json.dumps(make_manifest(run.config, DATA)))
    config = run.config
    history = [{"epoch": 1.0, "validation_accuracy": 0.8}, {"epoch": 2.0, "validation_accuracy": 0.81}]
    return ReportData(
        RunData(run, records, lambda _: history),
        answer_of(config, run.folder, records),
        lambda settings, name: importances(settings, name, config.objectives[name], config.domains),
        **changes,
    )


def plant_audit(run: Run, number: str, verdict: str, claimed: float, verified: float) -> None:
    """An audit of one unit on 100 images, with three checks."""
    audit = document()
    low, high = wilson_interval(round(100 * verified), 100)
    replicate = audit["replicates"][0]
    replicate["claim"] |= {"claimed": claimed, "verified": verified, "images": 100}
    replicate["claim"] |= {"verified_low": low, "verified_high": high, "verdict": verdict}
    folder = run.folder / "audits" / number
    folder.mkdir(parents=True)
    (folder / "audit.json").write_text(json.dumps({**audit, "verdict": verdict, "profile": "quick"}))


def cards_of(page: str) -> Mapping[str, str]:
    """The HTML of each card of a report by its id."""
    return dict(re.findall(r'<section class="card" id="(\w+)"(.*?)</section>', page, re.DOTALL))


def sentence_of(card: str) -> str:
    """The sentence of a card."""
    match = re.search(r'<p class="sentence[^>]*>(.*?)</p>', card, re.DOTALL)
    assert match is not None
    return unescape(match[1])
