"""How far a run is, read from its ledger by ``robustfront status``, from any terminal, during the run or later."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from analysis.records import TrialRecord
from search.results.standing import Standing
from search.results.tables import stop_note
from search.results.text import describe, short, value_text
from search.runs.folder import Run, command
from search.study import Counts, Ledger, holder, open_ledger
from search.tracking.reading import Agreement, reconcile

State = Literal["running", "interrupted", "complete", "failed"]


@dataclass(frozen=True)
class Status:
    """A run's state, counts and best so far.

    Args:
        run: The run.
        state: ``running`` while a driver is alive.
        counts: Trials of the search by state.
        extensions: The contenders' further replicates by state.
        standing: Counts and best values so far.
        running: The trials in state ``running``.
        stopped: The criterion that ended the search early; None if none did.
        agreement: Whether ``trials.csv`` and MLflow agree with the ledger; None while a driver is alive.
    """

    run: Run
    state: State
    counts: Counts
    extensions: Counts
    standing: Standing
    running: list[TrialRecord]
    stopped: str | None = None
    agreement: Agreement | None = None

    def to_json(self) -> dict[str, Any]:
        """The format of ``status --json``, which programs rely on."""
        counts = self.counts
        return {
            "name": self.run.name,
            "state": self.state,
            "trials": {
                "complete": counts.complete,
                "pruned": counts.pruned,
                "failed": counts.failed,
                "running": counts.running,
                "budget": counts.budget,
            },
            "baselines": {"complete": self.standing.baselines, "budget": len(self.run.config.baselines)},
            "replicates_for_front": {"complete": self.extensions.complete, "budget": self.extensions.budget},
            "infeasible": self.standing.infeasible,
            "hypervolume": self.standing.hypervolume,
            "reference": self.standing.reference.to_json() if self.standing.reference else None,
            "best": {
                name: {
                    "number": record.number,
                    "value": record.objectives[name],
                    "replicates": len(record.replicates),
                }
                for name, record in self.standing.best.items()
            },
            "running": [{"number": record.number, "epoch": record.epochs} for record in self.running],
            "imported": counts.imported,
            "fingerprint": self.run.manifest().get("fingerprint"),
            "stopped": self.stopped,
            "differences": None if self.agreement is None else self.agreement.differences,
            "folder": str(self.run.folder),
        }


def read_status(name: str, runs_dir: Path, *, reconciled: bool = False) -> Status:
    """Reads how far a run is.

    Args:
        name: A run under ``runs_dir``, or its path.
        runs_dir: Folder of the runs.
        reconciled: Whether to compare its table and MLflow with the ledger, unless a driver is alive; takes seconds.
    """
    run = Run.open(name, runs_dir)
    with closing(open_ledger(run)) as ledger:
        records = ledger.records()
        driver = holder(ledger.engine, run.name)
        alive = driver is not None and driver.alive
        agreement = None
        if reconciled and not alive:
            agreement = reconcile(run, records, {record.number: ledger.history(record.number) for record in records})
        return Status(
            run=run,
            state=_state(ledger, alive),
            counts=ledger.counts(),
            extensions=ledger.extensions(),
            standing=Standing.of(records, run.config, lambda: ledger.reference),
            running=[record for record in records if record.state == "running"],
            stopped=ledger.stopped,
            agreement=agreement,
        )


def print_status(console: Console, status: Status) -> None:
    """Prints the status for people."""
    counts, standing, config = status.counts, status.standing, status.run.config
    console.print(
        f"[bold]{status.run.name}[/bold]: {status.state}, {counts.finished} of {counts.budget} settings and "
        f"{standing.baselines} of {len(config.baselines)} baselines finished"
        + (f", {counts.failed} failed" if counts.failed else ""),
        highlight=False,
    )
    extensions = status.extensions
    if extensions.budget:
        console.print(
            f"  confirmation: {extensions.complete} of {extensions.budget} further seeds are finished "
            f"({config.search.replicates_for_front} per contender)",
            highlight=False,
        )
    if counts.imported:
        console.print(f"  {counts.imported} trials imported from earlier runs", highlight=False)
    for record in status.running:
        stage = "attacking" if record.epochs >= config.train.epochs else f"epoch {record.epochs}/{config.train.epochs}"
        note = stage if status.state == "running" else f"stopped at {stage}"
        console.print(f"  {describe(record)}{note}", highlight=False)
    for name, record in standing.best.items():
        console.print(
            f"  best {short(name):<8}{value_text(name, record.objectives[name])}  {describe(record)}", highlight=False
        )
    if standing.infeasible:
        none = "" if standing.best else "; none meets all yet"
        console.print(f"  {standing.infeasible} miss a constraint{none}", highlight=False)
    if standing.best:
        console.print(f"  hypervolume  {standing.hypervolume:.4f}", highlight=False)
    if status.stopped is not None:
        console.print(f"  {stop_note(status.run, status.stopped)}", highlight=False, markup=False, soft_wrap=True)
    if status.agreement is not None:
        _print_agreement(console, status.agreement, command("resume", status.run.argument))
    if status.state in ("interrupted", "failed"):
        console.print(f"Resume with `{command('resume', status.run.argument)}`", highlight=False)


def _print_agreement(console: Console, agreement: Agreement, resume: str) -> None:
    if not agreement.differences:
        console.print(
            f"  reconciled   ledger, trials.csv and MLflow agree on {agreement.trials} trials", highlight=False
        )
        return
    for line in agreement.differences:
        console.print(f"  {line}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    console.print(f"  The ledger is right; `{resume}` corrects the rest", highlight=False, soft_wrap=True)


def _state(ledger: Ledger, alive: bool) -> State:
    if alive:
        return "running"
    if ledger.complete:
        return "complete"
    return "failed" if ledger.failures_exhausted else "interrupted"
