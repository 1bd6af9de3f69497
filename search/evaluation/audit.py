"""The audit of a checkpoint on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.config import SweepConfig
from search.evaluation.progress_bar import progress_bar
from search.results.audits import Audience, Report, audit_model
from search.results.tables import VERDICT_STYLES
from search.runs.checkpoints import Checkpoint
from search.runs.folder import relative

_MARKS: Final = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "not done": "[dim]?[/dim]"}


def audit_checkpoint(
    checkpoint: Checkpoint,
    config: SweepConfig,
    profile: str,
    images: int | None,
    seed: int,
    output: Path | None,
    console: Console,
) -> None:
    """Audits a model and shows the result; one that has been audited before is shown again.

    Args:
        checkpoint: The model.
        config: Data and model as it was trained; the radius and norm to audit at.
        profile: ``quick`` or ``reference``.
        images: How many validation images; the profile's least, or as many as the claim is on, where it is None.
        seed: In [0, 2^32).
        output: Folder to write the audit to; beside the checkpoint where it is None.
        console: Where progress and tables are shown.

    Raises:
        UserError: There are too few images, the data is missing, or a checkpoint cannot be read.
    """
    folder = output or checkpoint.place("audits")
    document = audit_model(
        checkpoint,
        config,
        folder,
        profile_name=profile,
        images=images,
        seed=seed,
        audience=_Terminal(console),
    )
    print_audit(console, document)
    checkpoint.share(folder)
    console.print(f"Written to {relative(folder.absolute())}", highlight=False, soft_wrap=True)


def print_audit(console: Console, document: Mapping[str, Any]) -> None:
    """An ``audit.json`` for people: what is claimed and what holds, then the checks that fail and those that do not."""
    from trainables.audit import WORDS

    verified = document["verified"]
    style = VERDICT_STYLES[document["verdict"]]
    console.print(
        f"\nVerdict ({document['profile']} audit): [bold {style}]{document['verdict']}[/bold {style}]. "
        f"The robust accuracy that the sweep uses {WORDS[document['verdict']]}.\n"
        f"Verified accuracy within {document['radius']:.4g}: {100 * verified['accuracy']:.1f} % "
        f"({100 * verified['low']:.1f} to {100 * verified['high']:.1f}) of {document['images']} images, "
        f"the worst case over everything that was run.",
        highlight=False,
    )
    for number, replicate in enumerate(document["replicates"]):
        if len(document["replicates"]) > 1:
            console.print(f"\n[bold]Replicate {number}, seed {replicate['seed']}[/bold]", highlight=False)
        _print_claims(console, "what is claimed", [replicate["claim"]])
        if replicate["attack_claims"]:
            console.print("Single attacks, which do not count for the verdict:", highlight=False)
            _print_claims(console, "attack", replicate["attack_claims"])
        _print_checks(console, replicate["checks"])


def _print_claims(console: Console, heading: str, claims: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(heading, overflow="fold")
    table.add_column("by")
    table.add_column("claimed %", justify="right", no_wrap=True)
    table.add_column("verified % (95 %)", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim in claims:
        interval = f"({100 * claim['verified_low']:.1f} to {100 * claim['verified_high']:.1f})"
        style = VERDICT_STYLES[claim["verdict"]]
        table.add_row(
            claim["name"],
            claim["evaluation"],
            f"{100 * claim['claimed']:.1f}",
            f"{100 * claim['verified']:.1f} {interval}",
            f"[{style}]{claim['verdict']}[/{style}]",
        )
    console.print(table)
    for claim in claims:
        console.print(f"  {claim['name']}: {claim['sentence']}.", highlight=False, markup=False)
    console.print()


def _print_checks(console: Console, checks: Sequence[Mapping[str, Any]]) -> None:
    for check in checks:
        if check["state"] != "passed":
            of = f", {check['claim']}" if check["claim"] else ""
            state = " (not done)" if check["state"] == "not done" else ""
            console.print(
                Text.assemble(
                    Text.from_markup(f"  {_MARKS[check['state']]} "),
                    (f"{check['name']}{of}{state}: ", "bold"),
                    f"{check['sentence']} ",
                    (f"[{check['source']}]", "dim"),
                ),
                highlight=False,
            )
    passed = [check for check in checks if check["state"] == "passed"]
    names = ", ".join(dict.fromkeys(check["name"] for check in passed))
    console.print(f"  {_MARKS['passed']} [dim]{len(passed)} checks passed: {names}[/dim]", highlight=False)


class _Terminal(Audience):
    """Shows an audit on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def watch(self, where: str) -> Iterator[Report]:
        with _AuditProgress(self._console, where) as progress:
            yield progress.report


class _AuditProgress:
    """Which part of an audit runs, how far it is, and how long the rest takes."""

    def __init__(self, console: Console, where: str) -> None:
        self._console, self._where, self._said = console, where, ""
        self._bar = progress_bar(console, 52)
        self._task = self._bar.add_task(f"{where}begins", total=1.0)

    def __enter__(self) -> _AuditProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, done: float, total: int, name: str) -> None:
        """Takes how many parts are done, and which one runs."""
        self._bar.update(self._task, completed=done, total=total, description=f"{self._where}{name}")
        if not self._console.is_terminal and name != self._said:
            self._console.print(f"[{int(done) + 1}/{total}] {self._where}{name}", highlight=False, markup=False)
            self._said = name
