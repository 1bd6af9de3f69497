"""The audit of a checkpoint on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.config import SweepConfig
from search.evaluation.progress import progress
from search.results.audits import audit_model, images_text, meaning
from search.results.tables import VERDICT_STYLES
from search.runs.checkpoints import Checkpoint
from search.runs.folder import relative
from search.runs.layout import AUDITS

_MARKS: Final = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "not done": "[dim]?[/dim]"}


def audit_checkpoint(
    checkpoint: Checkpoint,
    config: SweepConfig,
    profile: str,
    images: int | None,
    seed: int,
    cuda: bool | None,
    output: Path | None,
    console: Console,
) -> None:
    """Audits a model and shows the result; one that has been audited before is shown again.

    The result is written to ``output``, by default beside the checkpoint. The other arguments and the errors are those
    of ``audit_model``.
    """
    folder = output or checkpoint.place(AUDITS)
    document = audit_model(
        checkpoint,
        config,
        folder,
        profile_name=profile,
        images=images,
        seed=seed,
        cuda=cuda,
        say=partial(console.print, soft_wrap=True),
        watch=partial(progress, console),
    )
    print_audit(console, document)
    checkpoint.share(folder)
    console.print(f"Written to {relative(folder.absolute())}", soft_wrap=True)


def print_audit(console: Console, document: Mapping[str, Any]) -> None:
    """An ``audit.json`` for people: what is claimed and what holds, then the checks that fail and those that do not."""
    clean, verified, word = document["clean"], document["verified"], document["verdict"]
    within = f"within {document['radius']:.4g}"
    heading = f"Not verified: robust accuracy {within} is at most" if document["upper_bound"] else f"Verified {within}:"
    console.print(
        f"\nVerdict ({document['profile']} audit): [bold]{_styled(word)}[/bold]. "
        f"{meaning(document)}\n"
        f"Clean accuracy {_percent(clean)} of {images_text(document['images'], document['split'])}.\n"
        f"{heading} {_percent(verified)}, the worst case over everything that was run.",
        soft_wrap=True,
    )
    for number, replicate in enumerate(document["replicates"]):
        if len(document["replicates"]) > 1:
            console.print(f"\n[bold]Replicate {number}, seed {replicate['seed']}[/bold]")
        _print_claims(console, "what is claimed", [replicate["claim"]])
        if replicate["attack_claims"]:
            console.print("Single attacks, which do not count for the verdict:")
            _print_claims(console, "attack", replicate["attack_claims"])
        else:
            console.print("Single attacks; most see only the images that those before them left:")
            _print_runs(console, replicate["runs"])
        _print_checks(console, replicate["checks"])


def _print_claims(console: Console, heading: str, claims: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(heading, overflow="fold")
    table.add_column("by", overflow="fold")
    table.add_column("claimed %", justify="right", no_wrap=True)
    table.add_column("verified % (95 %)", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for claim in claims:
        verified, low, high = (100 * claim[name] for name in ("verified", "verified_low", "verified_high"))
        table.add_row(
            claim["name"],
            claim["evaluation"],
            f"{100 * claim['claimed']:.1f}",
            f"{verified:.1f} ({low:.1f} to {high:.1f})",
            _styled(claim["verdict"]),
        )
    console.print(table)
    for claim in claims:
        console.print(f"  {claim['name']}: {claim['sentence']}.", markup=False)
    console.print()


def _print_runs(console: Console, runs: Sequence[Mapping[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("attack", overflow="fold")
    for heading in ("attacked", "broken", "alone leaves %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in runs:
        leaves = "" if run["accuracy"] is None else f"{100 * run['accuracy']:.1f}"
        table.add_row(run["name"], str(run["attacked"]), str(run["broken"]), leaves)
    console.print(table)


def _percent(share: Mapping[str, float]) -> str:
    """An accuracy with its interval."""
    return f"{100 * share['accuracy']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def _styled(verdict: str) -> str:
    return f"[{VERDICT_STYLES[verdict]}]{verdict}[/]"


def _print_checks(console: Console, checks: Sequence[Mapping[str, Any]]) -> None:
    for check in checks:
        if check["state"] != "passed":
            of = f", {check['claim']}" if check["claim"] else ""
            state = " (not done)" if check["state"] == "not done" else ""
            line = Text.assemble(
                Text.from_markup(f"  {_MARKS[check['state']]} "),
                (f"{check['name']}{of}{state}: ", "bold"),
                f"{check['sentence']} ",
                (f"[{check['source']}]", "dim"),
            )
            console.print(line)
    passed = [check["name"] for check in checks if check["state"] == "passed"]
    names = ", ".join(dict.fromkeys(passed))
    console.print(f"  {_MARKS['passed']} [dim]{len(passed)} checks passed: {names}[/dim]")
