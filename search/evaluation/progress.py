"""Shows how far an evaluation or an audit is: a bar on a terminal, a line per part elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search.results.audits import Report
from trainables.settings import RobustnessSettings

if TYPE_CHECKING:
    from trainables.data.splits import Split
    from trainables.robustness import Outcomes
    from trainables.training.replicate import Replicate


@contextmanager
def progress(console: Console, prefix: str = "", *, width: int = 45, lines: bool = True) -> Iterator[Report]:
    """Shows finished parts, their total, and the name of the part that runs, with a ``prefix``, as they are reported.

    The names get ``width`` characters. Nothing is shown without a terminal if ``lines`` is false.
    """
    bar = Progress(
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
    shown = ""
    with bar:
        task = bar.add_task(f"{prefix}begins", total=1.0)

        def report(done: float, total: int, name: str) -> None:
            nonlocal shown
            bar.update(task, completed=done, total=total, description=f"{prefix}{name}")
            if lines and not console.is_terminal and name != shown:
                console.print(f"[{min(int(done) + 1, total)}/{total}] {prefix}{name}", markup=False)
            shown = name

        yield report


def attack(
    replicates: Sequence[Replicate], split: Split, robustness: RobustnessSettings, console: Console, prefix: str = ""
) -> Outcomes:
    """Attacks the replicates on a split; with a ``prefix`` for the bar, no lines are printed elsewhere."""
    from trainables.robustness.evaluate import evaluate

    runs = [f"{attack.label}, {view}" for attack in robustness.attacks for view in robustness.views_of(attack)]
    names = [f"{run} (replicate {r})" if len(replicates) > 1 else run for r in range(len(replicates)) for run in runs]
    seeds = [replicate.seed for replicate in replicates]
    with progress(console, prefix, width=28, lines=not prefix) as report:
        report(0, len(names), names[0])
        return evaluate(
            [replicate.predictor for replicate in replicates],
            split,
            robustness,
            seeds,
            lambda done, total: report(done, total, names[min(int(done), total - 1)]),
        )
