"""Writes the report: all cards on one page that needs no network and no other file."""

from __future__ import annotations

import base64
import importlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from search.report import cards
from search.report.card import Card
from search.report.data import ReportData
from search.results.answer import Answered, answer_of
from search.results.writing import RunData
from search.runs.folder import ImportedRun, Run
from search.runs.layout import REPORT_FILE
from search.study import importances, open_ledger
from trainables import files

ORDER: Final = (
    "recommendation",
    "front",
    "surfaces",
    "matters",
    "audits",
    "radius",
    "curves",
    "importance",
    "test",
    "cost",
    "failures",
    "provenance",
)
# Of an imported run: nothing about networks, attacks and costs.
ORDER_OF_IMPORT: Final = ("recommendation", "front", "surfaces", "matters", "importance", "failures", "source")


def report(run: Run | ImportedRun) -> Path:
    """Writes the report of a run from the current state of its ledger, or from what was imported."""
    if isinstance(run, ImportedRun):
        units = run.records()
        return write_report(RunData(run, units), None, answer_of(run.config, run.folder, units))
    with closing(open_ledger(run)) as ledger:
        units = ledger.records()
        data = RunData(run, units, ledger.history, ledger.reference)
        return write_report(data, ledger.stopped, answer_of(run.config, run.folder, units))


def write_report(run_data: RunData, stopped: str | None, answered: Answered | None) -> Path:
    """Writes ``report.html`` to the run's folder and shares it. A card that fails is replaced by its error.

    ``stopped`` is the criterion that ended the search early, if one did.
    """
    run = run_data.run
    directions, domains = run.config.objectives, run.config.domains
    data = ReportData(
        run_data,
        answered,
        lambda settings, name: importances(settings, name, directions[name], domains),
        stopped,
    )
    path = files.write(run.folder / REPORT_FILE, page(data))
    run.share(path)
    return path


def page(data: ReportData) -> str:
    """The report as HTML."""
    from analysis.figures.style import render

    run = data.data.run
    order = ORDER if isinstance(run, Run) else ORDER_OF_IMPORT
    sections = {name: _section(name, data) for name in order}
    return render(
        "report.html",
        name=run.name,
        title=data.data.title,
        began="Started" if isinstance(run, Run) else "Imported",
        created=run.manifest()["created"],
        cards={name: section for name, section in sections.items() if section is not None},
    )


def _section(name: str, data: ReportData) -> dict[str, Any] | None:
    """The template's values for a card; None if the card does not apply."""
    module = importlib.import_module(f"{cards.__name__}.{name}")
    make_card: Callable[[ReportData], Card | None] = module.card
    try:
        card = make_card(data)
    except Exception as error:  # an error in one card must not hide the others
        reason = traceback.format_exception_only(error)[-1].strip()
        card = Card(f"This card could not be made: {reason}", tone="bad")
    if card is None:
        return None
    return {"title": module.TITLE, "card": card, "downloads": _downloads(card.downloads)}


def _downloads(contents: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """Files as data: URIs, which a browser can also save from a page on disk."""
    kinds = {"csv": "text/csv", "json": "application/json", "yaml": "application/yaml"}
    return [
        (name, f"data:{kinds[name.rpartition('.')[2]]};base64,{base64.b64encode(text.encode()).decode('ascii')}")
        for name, text in contents.items()
    ]
