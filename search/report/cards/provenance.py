"""Where the numbers come from, and the command that reproduces them."""

from __future__ import annotations

import json

from search.report.card import Card, Cell, Table
from search.report.data import ReportData
from search.runs.layout import MANIFEST_FILE, SWEEP_FILE

TITLE = "Where it comes from"


def card(data: ReportData) -> Card:
    """The manifest, the configuration, and how to run the sweep again."""
    run, manifest = data.sweep, data.sweep.manifest()
    code, dataset, hardware = manifest["code"], manifest["data"], manifest["hardware"]
    sweep_command = f"robustfront sweep {SWEEP_FILE} --name {run.name}-again"
    commands = [("Reproduces the run; use it in the run's folder or next to the configuration below", sweep_command)]
    if code:
        revision = code.removesuffix("-dirty")
        note = "Gets the code" + (", without its uncommitted changes" if code.endswith("-dirty") else "")
        commands.insert(0, (note, f"git checkout {revision}"))
    facts = [
        ("Started", manifest["created"]),
        ("Code", code or f"not from a git checkout; SHA-256 of the source {manifest['source_sha256'][:16]}"),
        ("Data", f"{dataset['name']} from {dataset['location']}, SHA-256 {dataset['sha256'][:16]}"),
        ("Images", ", ".join(f"{count} {split}" for split, count in dataset["sizes"].items())),
        ("Seeds", ", ".join(f"{name} {seed}" for name, seed in manifest["seeds"].items())),
        ("Hardware", f"{hardware['cpus']} processors, {hardware['system']}"),
        ("Fingerprint of the problem", manifest["fingerprint"][:16]),
    ]
    searched = ", ".join(f"{name} in {domain}" for name, domain in run.config.domains.items())
    return Card(
        sentence=(
            f"{data.data.title}: {run.config.budget} units by {run.config.search.sampler} over "
            f"{searched or 'no parameters'}, started {manifest['created'][:10]}."
        ),
        facts=facts,
        commands=commands,
        tables=[
            Table(
                "Versions",
                ["package", "version"],
                [[Cell(name), Cell(version)] for name, version in manifest["versions"].items()],
            )
        ],
        downloads={
            SWEEP_FILE: run.config.to_yaml(),
            MANIFEST_FILE: json.dumps(manifest, indent=2) + "\n",
        },
    )
