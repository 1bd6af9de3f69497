"""An audit as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.results.tables import VERDICT_STYLES

_MARKS: Final = {"passed": "[green]✓[/green]", "failed": "[red]✗[/red]", "not done": "[dim]?[/dim]"}


def print_audit(console: Console, document: Mapping[str, Any]) -> None:
    """Prints an audit: what is claimed and what holds, then the checks that fail and those that pass.

    Args:
        console: Where to print.
        document: An ``audit.json``.
    """
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
