"""The progress of an evaluation or an audit: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search.results.audits import Report
from trainables.settings import RobustnessSettings


@contextmanager
def attack_progress(
    console: Console, names: Sequence[str], *, lines: bool = True
) -> Iterator[Callable[[float, int], None]]:
    """Shows which attack runs on which view; gives what takes the number of finished runs and their total.

    Args:
        console: Where to show it.
        names: The name of each run, as from ``attack_names``.
        lines: Whether to print a line per finished run if the console is no terminal.
    """
    printed = 0
    with _bar(console, width=28) as bar:
        task = bar.add_task(names[0], total=len(names))

        def report(done: float, total: int) -> None:
            nonlocal printed
            bar.update(task, completed=done, description=names[min(int(done), total - 1)])
            if lines and not console.is_terminal and int(done) > printed:
                printed = int(done)
                console.print(f"[{printed}/{total}] {names[printed - 1]}", highlight=False, markup=False)

        yield report


def attack_names(robustness: RobustnessSettings, replicates: int) -> list[str]:
    """The name of each run of an attack, in the order of ``trainables.robustness.evaluate``."""
    names = [f"{attack.label}, {view}" for attack in robustness.attacks for view in robustness.views_of(attack)]
    return [f"{name} (replicate {r})" if replicates > 1 else name for r in range(replicates) for name in names]


@contextmanager
def audit_progress(console: Console, where: str) -> Iterator[Report]:
    """Shows which part of an audit runs; ``where`` says of which replicate."""
    printed = ""
    with _bar(console, width=52) as bar:
        task = bar.add_task(f"{where}begins", total=1.0)

        def report(done: float, total: int, name: str) -> None:
            nonlocal printed
            bar.update(task, completed=done, total=total, description=f"{where}{name}")
            if not console.is_terminal and name != printed:
                printed = name
                console.print(f"[{int(done) + 1}/{total}] {where}{name}", highlight=False, markup=False)

        yield report


def _bar(console: Console, width: int) -> Progress:
    """A bar with a description of ``width`` characters, the share done, and the times spent and left."""
    return Progress(
        TextColumn(f"{{task.description:<{width}}}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
