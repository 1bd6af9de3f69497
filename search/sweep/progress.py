"""What a person sees of a running sweep: a live panel in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.export import constraints_text
from analysis.records import TrialRecord, Value, is_accuracy
from analysis.records import value_text as plain_text
from search.config.schema import SweepConfig
from search.results.standing import Standing
from search.runs.folder import Run, command
from search.study.ledger import Counts, Task
from search.tracking.mirror import TrackingReport

_REFRESH_SECONDS: Final = 0.5


@dataclass
class _Running:
    task: Task
    title: str
    began: float
    epoch: int = 0


def _no_extensions() -> Counts:
    return Counts(complete=0, pruned=0, failed=0, running=0, budget=0)


class Progress:
    """Follows a sweep as an observer and shows where it stands.

    Args:
        config: The sweep.
        console: Where to show it. A terminal gets a live panel, anything else a line a trial.
        quiet: Show nothing.
    """

    def __init__(self, config: SweepConfig, console: Console, quiet: bool) -> None:
        self._config, self._console, self._quiet = config, console, quiet
        self.concurrency = 1
        self._standing = Standing(config)
        self._count_extensions = _no_extensions
        self._extensions = _no_extensions()
        self._running: dict[str, _Running] = {}
        self._durations: list[float] = []
        self._began = time.monotonic()
        self._shown = 0.0
        self._stage = "starting"
        self._stopping = False
        self._waiting_for = ""
        self._lags = False
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            self._refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def standing(self) -> Standing:
        return self._standing

    def begin(self, records: Iterable[TrialRecord], extensions: Callable[[], Counts]) -> None:
        """Takes the trials so far: some where a sweep is resumed.

        Args:
            records: The trials.
            extensions: Asked, whenever a trial has begun or ended, where further replicates stand.
        """
        self._standing = Standing.of(records, self._config)
        self._count_extensions = extensions
        self._extensions = extensions()

    def missed(self, report: TrackingReport, run: Run) -> None:
        """Says plainly what did not reach MLflow, and what writes it."""
        message = report.message(command("resume", run.argument))
        if message is not None:
            self._console.print(message, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def stage(self, name: str) -> None:
        """Says what goes on outside the trials, e.g. the start of Ray."""
        self._stage = name
        if self._live is not None:
            self._refresh()
        elif not self._quiet and name:
            self._console.print(f"{name} ...", highlight=False)

    def waiting(self, reason: str) -> None:
        """Says that the storage does not answer, and why; nothing once it does."""
        if reason != self._waiting_for:
            self._waiting_for = reason
            self.stage(f"waiting for the storage ({reason})" if reason else "")

    def lagging(self, reason: str | None) -> None:
        """Says, once, that MLflow does not get what it should, and why; and that it has it all again."""
        if (reason is not None) != self._lags:
            self._lags = reason is not None
            self.say(f"MLflow lags behind ({reason}); the sweep goes on" if self._lags else "MLflow has caught up")

    def stopping(self, reason: str | None) -> None:
        """Says, once, why the search begins no more settings."""
        if reason is not None and not self._stopping:
            self._stopping = True
            self.say(f"no new settings ({reason})")

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        if not self._quiet:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None:
        """Redraws the panel now and then; cheap enough for every turn of Tune's loop."""
        if self._live is not None and time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._refresh()

    def started(self, task: Task, record: TrialRecord) -> None:
        self._stage = ""
        self._running[task.number] = _Running(task, _title(record), time.monotonic(), record.epochs)
        self._extensions = self._count_extensions()

    def epoch_finished(self, number: str, metrics: Mapping[str, float]) -> None:
        self._running[number].epoch = int(metrics["epoch"])

    def ended(self, record: TrialRecord) -> None:
        running = self._running.pop(record.number)
        if record.state == "complete":
            self._durations.append((time.monotonic() - running.began) / self._size(running.task))
        self._standing.add(record)
        self._extensions = self._count_extensions()
        if self._live is not None:
            if record.state == "failed":
                self._live.console.print(self._line(record), highlight=False, markup=False, soft_wrap=True)
            self._refresh()
        elif not self._quiet:
            self._console.print(self._line(record), highlight=False, markup=False, soft_wrap=True)

    def seconds_left(self) -> float | None:
        """An estimate from the trials that this driver has finished; None before the first."""
        if not self._durations:
            return None
        total = self._config.budget + len(self._config.baselines)
        done = self._standing.finished + self._standing.baselines
        mean = sum(self._durations) / len(self._durations)
        now = time.monotonic()
        sizes = {running.task.number: self._size(running.task) for running in self._running.values()}
        under_way = sum(
            min((now - running.began) / mean, 0.95 * sizes[number]) for number, running in self._running.items()
        )
        due = self._extensions.budget - self._extensions.complete
        further = (self._config.search.replicates_for_front or 0) / self._config.train.replicates - 1
        return max(total - done - under_way + due * further, 0.0) * mean / self.concurrency

    def _size(self, task: Task) -> float:
        """A task's share of the work of a whole setting."""
        return 1.0 if task.replicates is None else len(task.replicates) / self._config.train.replicates

    def _line(self, record: TrialRecord) -> str:
        left, extensions = self.seconds_left(), self._extensions
        count = f"{self._standing.finished}/{self._config.budget}"
        if record.extends is not None:
            count = f"replicates {extensions.complete}/{extensions.budget}"
        head = f"[{count}] {describe(record)}"
        if record.state == "failed":
            return f"{head}  failed: {record.failure}"
        if record.state == "pruned":
            return f"{head}  stopped after epoch {record.epochs} of {self._config.train.epochs}"
        values = "  ".join(
            f"{short(name)} {value_text(name, record.objectives[name]):>7}" for name in self._config.objectives
        )
        if record.constraints:
            values += f"  constraints {constraints_text(record)}"
        seconds = record.train_seconds + record.attack_seconds
        rest = f"  left {clock(left)}" if left is not None else ""
        return f"{head}  {values}  {seconds:.0f} s  hypervolume {self._standing.hypervolume:.4f}{rest}"

    def _refresh(self) -> None:
        assert self._live is not None
        self._shown = time.monotonic()
        self._live.update(self._panel(), refresh=True)

    def _panel(self) -> RenderableType:
        config, standing, extensions = self._config, self._standing, self._extensions
        head = Table.grid(padding=(0, 2))
        left = self.seconds_left()
        head.add_row(
            Text(config.name, style="bold"),
            ProgressBar(total=config.budget, completed=standing.finished, width=32),
            f"{standing.finished}/{config.budget} settings",
            f"{standing.baselines}/{len(config.baselines)} baselines",
            *([f"{extensions.complete}/{extensions.budget} replicates of front"] if extensions.budget else []),
            f"elapsed {clock(time.monotonic() - self._began)}",
            f"left {clock(left)}" if left is not None else "",
        )
        body = Table.grid(padding=(0, 2))
        if self._stage:
            body.add_row(Text(f"{self._stage} ...", style="dim"))
        for running in self._running.values():
            attacking = running.epoch >= config.train.epochs
            body.add_row(
                Text(running.title, style="cyan"),
                parameters_text(running.task.setting.parameters) or running.task.setting.loss,
                "attacking" if attacking else f"epoch {running.epoch + 1}/{config.train.epochs}",
                clock(time.monotonic() - running.began),
            )
        foot = Table.grid(padding=(0, 2))
        if standing.best:
            cells = [
                f"best {short(name)} {value_text(name, best.objectives[name])} (trial {best.number}{_seeds(best)})"
                for name, best in standing.best.items()
            ]
            foot.add_row(*cells, f"hypervolume {standing.hypervolume:.4f}")
        if standing.infeasible:
            foot.add_row(Text(f"{standing.infeasible} miss a constraint", style="yellow"))
        if standing.failed:
            foot.add_row(Text(f"{standing.failed} failed", style="red"))
        return Group(head, body, foot)


def describe(record: TrialRecord) -> str:
    """A trial in a few words, e.g. ``trial 7   s=1.2341 m=0.0456`` or ``baseline B0  cross-entropy``."""
    what = parameters_text(record.parameters) or record.loss
    return f"{_title(record):<11} {what:<24}"


def parameter_text(value: Value) -> str:
    """A parameter's value in a column of others: ``1.2341``, ``0.0456``, ``3``, ``none``."""
    return f"{value:.4f}" if isinstance(value, float) and abs(value) >= 1e-3 else plain_text(value)


def parameters_text(parameters: Mapping[str, Value]) -> str:
    """``s=1.2341 m=0.0456``."""
    return " ".join(f"{name}={parameter_text(value)}" for name, value in parameters.items())


def short(objective: str) -> str:
    """``clean`` for ``clean_accuracy``."""
    return objective.removesuffix("_accuracy").replace("_", " ")


def value_text(measure: str, value: float, digits: int = 1) -> str:
    """A measured value for people: an accuracy in percent, a wall time in seconds, a loss as it is.

    Args:
        measure: What was measured.
        value: The value, a fraction if it is an accuracy.
        digits: Decimals of percents and seconds.
    """
    if is_accuracy(measure):
        return f"{100 * value:.{digits}f} %"
    return f"{value:.{digits}f} s" if measure.endswith("_seconds") else f"{value:.4f}"


def clock(seconds: float) -> str:
    """``2:05``, or ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _title(record: TrialRecord) -> str:
    if record.extends is not None:
        return f"{record.number} of {record.extends}"
    return f"baseline {record.number}" if record.is_baseline else f"trial {record.number}"


def _seeds(record: TrialRecord) -> str:
    """How many seeds a pooled number rests on."""
    return f", {len(record.replicates)} seeds" if record.extensions else ""
