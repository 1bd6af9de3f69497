"""Where an imported run comes from, and what was changed or left out."""

from __future__ import annotations

import json

from search.report.card import Card, Cell, Table
from search.report.data import ReportData
from search.runs.layout import MANIFEST_FILE

TITLE = "Where it comes from"

_STATES = ("complete", "pruned", "failed", "running")


def card(data: ReportData) -> Card:
    """The source, the names of its metrics, the notes of the import, and the versions that read it."""
    run, manifest = data.data.run, data.data.run.manifest()
    source, units = manifest["source"], data.data.units
    counts = {state: sum(unit.state == state for unit in units) for state in _STATES}
    facts = [
        ("Source", source["url"]),
        ("Begun", source["begun"] or "unknown"),
        ("Imported", manifest["created"]),
        ("Trials", ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"),
        *((f"{name}, {data.config.objectives[name]}d", metric) for name, metric in source["metrics"].items()),
        ("Searched", ", ".join(f"{name} in {domain}" for name, domain in data.config.domains.items()) or "nothing"),
    ]
    versions = manifest["versions"].items()
    return Card(
        sentence=f"{data.data.title}. robustfront trained and attacked nothing: every number is the study's own.",
        facts=facts,
        notes=source["notes"],
        tables=[
            Table(
                "Versions at the import", ["package", "version"], [[Cell(name), Cell(each)] for name, each in versions]
            )
        ],
        downloads={
            run.config_file: run.config.to_yaml(),
            MANIFEST_FILE: json.dumps(manifest, indent=2) + "\n",
        },
    )
