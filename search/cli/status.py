"""The progress of a run, read from its ledger by ``robustfront status``, from any terminal, during the run or later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.records import TrialRecord
from search.config import load_import
from search.errors import UserError
from search.results.answer import read_answer
from search.results.standing import Standing
from search.results.tables import stop_note
from search.results.text import describe, settings_text, short, value_text
from search.runs.folder import ImportedRun, Run, command
from search.runs.layout import IMPORT_FILE, MANIFEST_FILE
from search.study import Counts, Ledger, holder, open_ledger
from search.tracking.reading import reconcile

State = Literal["running", "interrupted", "complete", "failed"]


@dataclass(frozen=True)
class Status:
    """A run's state and counts: of the search's trials, and of the contenders' further replicates (``extensions``).

    ``stopped`` is the criterion that ended the search early. ``differences`` of ``trials.csv`` and MLflow from the
    ledger are None while a driver is alive.
    """

    run: Run
    state: State
    counts: Counts
    extensions: Counts
    standing: Standing
    records: list[TrialRecord]
    stopped: str | None
    differences: list[str] | None

    @property
    def running(self) -> list[TrialRecord]:
        return [record for record in self.records if record.state == "running"]

    def to_json(self) -> dict[str, Any]:
        """The format of ``status --json``, which programs rely on."""
        counts, standing = self.counts, self.standing
        states = ("complete", "pruned", "failed", "running", "budget")
        return {
            "name": self.run.name,
            "state": self.state,
            "trials": {name: getattr(counts, name) for name in states},
            "baselines": {"complete": standing.baselines, "budget": len(self.run.config.baselines)},
            "confirmation": {"complete": self.extensions.complete, "budget": self.extensions.budget},
            "infeasible": standing.infeasible,
            "hypervolume": standing.hypervolume,
            "reference": standing.reference.to_json() if standing.reference else None,
            "best": {
                name: {"number": best.number, "value": best.objectives[name], "replicates": len(best.replicates)}
                for name, best in standing.best.items()
            },
            "running": [{"number": record.number, "epoch": record.epochs} for record in self.running],
            "imported": counts.imported,
            "fingerprint": self.run.manifest().get("fingerprint"),
            "stopped": self.stopped,
            "verdict": (read_answer(self.run) or {}).get("verdict"),
            "differences": self.differences,
            "folder": str(self.run.folder),
        }


def read_status(name: str, runs_dir: Path, *, reconciled: bool = False) -> Status:
    """Reads the progress of a run. ``reconciled`` compares table and MLflow with the ledger, which takes seconds."""
    run = Run.open(name, runs_dir)
    with closing(open_ledger(run)) as ledger:
        records = ledger.records()
        driver = holder(ledger.engine, run.name)
        alive = driver is not None and driver.alive
        differences = None
        if reconciled and not alive:
            differences = reconcile(run, records, {record.number: ledger.history(record.number) for record in records})
        return Status(
            run=run,
            state="running" if alive else _state_without_driver(ledger),
            counts=ledger.counts(),
            extensions=ledger.extensions(),
            standing=Standing.of(records, run.config, lambda: ledger.reference),
            records=records,
            stopped=ledger.stopped,
            differences=differences,
        )


def _state_without_driver(ledger: Ledger) -> State:
    if ledger.complete:
        return "complete"
    return "failed" if ledger.failures_exhausted else "interrupted"


def print_status(console: Console, status: Status) -> None:
    run, counts, extensions, standing = status.run, status.counts, status.extensions, status.standing
    config, resume = run.config, command("resume", run.argument)
    say = console.print
    failed = f", {counts.failed} failed" if counts.failed else ""
    say(
        f"[bold]{run.name}[/bold]: {status.state}, {counts.finished} of {settings_text(counts.budget, config)} and "
        f"{standing.baselines} of {len(config.baselines)} baselines finished{failed}"
    )
    if extensions.budget:
        say(
            f"  confirmation: {extensions.complete} of {extensions.budget} networks finished "
            f"({config.search.confirmation_seeds} seeds per setting)"
        )
    if counts.imported:
        say(f"  {counts.imported} trials imported from earlier runs")
    for record in status.running:
        stage = "attacking" if record.epochs >= config.train.epochs else f"epoch {record.epochs}/{config.train.epochs}"
        say(f"  {describe(record)}{stage if status.state == 'running' else f'stopped at {stage}'}")
    for name, record in standing.best.items():
        say(f"  best {short(name):<8}{value_text(name, record.objectives[name])}  {describe(record)}")
    if standing.infeasible:
        none = "" if standing.best else "; none meets all yet"
        say(f"  {standing.infeasible} miss a constraint{none}")
    if standing.best:
        say(f"  hypervolume  {standing.hypervolume:.4f}")
    if status.stopped is not None:
        say(f"  {stop_note(run, status.stopped)}", markup=False, soft_wrap=True)
    if status.differences == []:
        say(f"  reconciled   ledger, trials.csv and MLflow agree on {len(status.records)} trials")
    elif status.differences:
        for line in status.differences:
            say(f"  {line}", style="yellow", markup=False, soft_wrap=True)
        say(f"  The ledger is right; `{resume}` corrects the rest", soft_wrap=True)
    if status.state in ("interrupted", "failed"):
        say(f"Resume with `{resume}`")


def list_runs(runs_dir: Path) -> list[dict[str, Any]]:
    """The runs of a folder, newest first: name, state, finished, budget, best (by objective), created.

    If a run cannot be read, for example because it has not begun, ``state`` has the reason.
    """
    rows = []
    for path in runs_dir.glob(f"*/{MANIFEST_FILE}"):
        row = {"name": path.parent.name, "created": json.loads(path.read_text(encoding="utf-8")).get("created", "")}
        if (path.parent / IMPORT_FILE).is_file():
            rows.append({**row, **_imported(path.parent)})
            continue
        try:
            status = read_status(str(path.parent), runs_dir)
        except UserError as error:
            rows.append({**row, "state": f"unreadable: {error}", "finished": None, "budget": None, "best": {}})
            continue
        best = {name: record.objectives[name] for name, record in status.standing.best.items()}
        counts = {"finished": status.counts.finished, "budget": status.counts.budget}
        rows.append({**row, "state": status.state, **counts, "best": best})
    return sorted(rows, key=lambda row: str(row["created"]), reverse=True)


def _imported(folder: Path) -> dict[str, Any]:
    """What a list says of an imported run, which has no budget."""
    run = ImportedRun(folder, load_import(folder / IMPORT_FILE))
    units = run.records()
    best = Standing.of(units, run.config, lambda: None).best
    return {
        "state": "imported",
        "finished": sum(unit.state == "complete" for unit in units),
        "budget": None,
        "best": {name: record.objectives[name] for name, record in best.items()},
    }


def runs_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of ``list_runs`` as a table for the terminal."""
    table = Table(box=SIMPLE_HEAD)
    names = list(dict.fromkeys(name for row in rows for name in row["best"]))
    for heading in ("run", "state", "units", *(f"best {short(name)}" for name in names), "started"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        units = str(row["finished"] or "") if row["budget"] is None else f"{row['finished']} of {row['budget']}"
        best = [value_text(name, row["best"][name]) if name in row["best"] else "" for name in names]
        table.add_row(row["name"], row["state"], units, *best, row["created"][:10])
    return table
