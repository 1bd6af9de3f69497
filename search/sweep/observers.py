"""What follows a sweep beside its ledger: the progress in the terminal, and MLflow."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.export import constraints_text
from analysis.hypervolume import Reference
from analysis.records import TrialRecord, in_order
from search.config import SweepConfig
from search.results.final import settings_of
from search.results.standing import Standing
from search.results.summary import front_json, summary_text
from search.results.text import clock, describe, parameters_text, settings_text, short, title, value_text
from search.results.writing import Results
from search.runs.folder import Run, command
from search.study import Counts, Ledger
from search.tracking.mirror import Setting
from search.tracking.queue import Tracker

_REFRESH_SECONDS: Final = 0.5


class Observer(Protocol):
    """Something that follows a sweep: the terminal's progress, MLflow. Called after the ledger has been written."""

    def started(self, record: TrialRecord) -> None:
        """A unit begins, or continues after its driver's or worker's death."""

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None:
        """A unit has finished an epoch."""

    def ended(self, record: TrialRecord) -> None:
        """A unit has ended, completely or not."""

    def audited(self, record: TrialRecord) -> None:
        """A unit has been audited."""


@dataclass
class _Running:
    record: TrialRecord
    began: float
    epoch: int


class Progress:
    """Shows how far a sweep is: a live panel in a terminal, one line per trial elsewhere, nothing if ``quiet``."""

    def __init__(self, config: SweepConfig, console: Console, quiet: bool) -> None:
        self._config, self._console, self._quiet = config, console, quiet
        self.concurrency = 1
        self.standing = Standing(config, lambda: None)
        self._count_extensions: Callable[[], Counts] = Counts
        self._extensions = Counts()
        self._running: dict[str, _Running] = {}
        self._durations: list[float] = []
        self._began = time.monotonic()
        self._shown = 0.0
        self._stage = "starting"
        self._stopping = self._lags = False
        self._waiting_for = ""
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
            self._refresh()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._began

    def begin(
        self,
        records: Iterable[TrialRecord],
        extensions: Callable[[], Counts],
        reference: Callable[[], Reference | None],
    ) -> None:
        """Takes the units of a resumed sweep, and what counts the further seeds and gives the reference."""
        self.standing = Standing.of(records, self._config, reference)
        self._count_extensions = extensions
        self._extensions = extensions()

    def missed(self, lack: str | None, run: Run) -> None:
        """Says what did not reach MLflow, if anything, and which command writes it, even where the rest is quiet."""
        if lack is not None:
            message = f"{lack}; `{command('resume', run.argument)}` writes what is missing"
            self._console.print(message, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def stage(self, name: str) -> None:
        """Shows what happens outside the trials, e.g. the start of Ray."""
        self._stage = name
        if self._live is not None:
            self._refresh()
        elif name:
            self.say(f"{name} ...")

    def waiting(self, reason: str) -> None:
        """Shows why the storage does not answer; an empty reason once it answers."""
        if reason != self._waiting_for:
            self._waiting_for = reason
            self.stage(f"waiting for the storage ({reason})" if reason else "")

    def lagging(self, reason: str | None) -> None:
        """Says once that MLflow is behind, and why, and once that it has caught up."""
        if (reason is not None) != self._lags:
            self._lags = reason is not None
            self.say(f"MLflow is behind ({reason}); the sweep continues" if self._lags else "MLflow has caught up")

    def stopping(self, reason: str | None) -> None:
        """Says once why the search begins no more settings."""
        if reason is not None and not self._stopping:
            self._stopping = True
            self.say(f"no new settings ({reason})")

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        if not self._quiet:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def tick(self) -> None:
        """Redraws the panel if it is old; cheap enough for every turn of Tune's loop."""
        if self._live is not None and time.monotonic() - self._shown > _REFRESH_SECONDS:
            self._refresh()

    def started(self, record: TrialRecord) -> None:
        self._stage = ""
        self._running[record.number] = _Running(record, time.monotonic(), record.epochs)
        self._extensions = self._count_extensions()

    def epoch_finished(self, number: str, metrics: Mapping[str, float]) -> None:
        self._running[number].epoch = int(metrics["epoch"])

    def ended(self, record: TrialRecord) -> None:
        self.standing.add(record)
        self._extensions = self._count_extensions()
        running = self._running.pop(record.number, None)  # None if an earlier call raised after this
        if running is not None and record.state == "complete":
            self._durations.append(time.monotonic() - running.began)
        if self._live is None or record.state == "failed":
            self.say(self._line(record))
        if self._live is not None:
            self._refresh()

    def audited(self, record: TrialRecord) -> None:
        self.standing.add(record)

    def seconds_left(self) -> float | None:
        """Estimates the rest from the trials that this driver has finished; None before the first."""
        if not self._durations:
            return None
        baselines = len(self._config.baselines) * self._config.train.replicates
        total = self._config.budget + baselines + self._extensions.budget
        done = self.standing.finished + self.standing.baselines + self.standing.extensions
        mean = sum(self._durations) / len(self._durations)
        now = time.monotonic()
        under_way = sum(min((now - running.began) / mean, 0.95) for running in self._running.values())
        return max(total - done - under_way, 0.0) * mean / self.concurrency

    def _line(self, record: TrialRecord) -> str:
        left, config = self.seconds_left(), self._config
        count = f"{self.standing.finished}/{config.budget}"
        if record.role == "confirmation":
            count = f"confirmation {self._extensions.complete}/{self._extensions.budget}"
        head = f"[{count}] {describe(record)}"
        if record.state == "failed":
            return f"{head}  failed: {record.failure}"
        if record.state == "pruned":
            return f"{head}  stopped after epoch {record.epochs} of {config.train.epochs}"
        values = "  ".join(
            f"{short(name)} {value_text(name, record.objectives[name]):>7}" for name in config.objectives
        )
        if record.constraints:
            values += f"  constraints {constraints_text(record)}"
        seconds = record.train_seconds + record.attack_seconds
        rest = f"  left {clock(left)}" if left is not None else ""
        return f"{head}  {values}  {seconds:.0f} s  hypervolume {self.standing.hypervolume:.4f}{rest}"

    def _refresh(self) -> None:
        assert self._live is not None
        self._shown = time.monotonic()
        self._live.update(Group(self._head(), self._body(), self._foot()), refresh=True)

    def _head(self) -> RenderableType:
        config, standing, extensions, left = self._config, self.standing, self._extensions, self.seconds_left()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(config.name, style="bold"),
            ProgressBar(total=config.budget, completed=standing.finished, width=32),
            f"{standing.finished}/{settings_text(config.budget, config)}",
            f"{standing.baselines}/{len(config.baselines)} baselines",
            *([f"{extensions.complete}/{extensions.budget} confirmations"] if extensions.budget else []),
            f"elapsed {clock(self.elapsed)}",
            f"left {clock(left)}" if left is not None else "",
        )
        return head

    def _body(self) -> RenderableType:
        body = Table.grid(padding=(0, 2))
        if self._stage:
            body.add_row(Text(f"{self._stage} ...", style="dim"))
        for running in self._running.values():
            record, epochs = running.record, self._config.train.epochs
            body.add_row(
                Text(title(record), style="cyan"),
                parameters_text(record.parameters) or record.loss,
                "attacking" if running.epoch >= epochs else f"epoch {running.epoch + 1}/{epochs}",
                clock(time.monotonic() - running.began),
            )
        return body

    def _foot(self) -> RenderableType:
        standing = self.standing
        foot = Table.grid(padding=(0, 2))
        if standing.best:
            cells = []
            for name, best in standing.best.items():
                seeds = f", {len(best.replicates)} seeds" if best.extensions else ""
                cells.append(
                    f"best {short(name)} {value_text(name, best.objectives[name])} (trial {best.number}{seeds})"
                )
            foot.add_row(*cells, f"hypervolume {standing.hypervolume:.4f}")
        if standing.infeasible:
            foot.add_row(Text(f"{standing.infeasible} miss a constraint", style="yellow"))
        if standing.failed:
            foot.add_row(Text(f"{standing.failed} failed", style="red"))
        return foot


class MLflowObserver:
    """Keeps MLflow in step with the ledger."""

    def __init__(self, ledger: Ledger, tracker: Tracker, config: SweepConfig) -> None:
        self._ledger, self.tracker, self._bounds, self._last_end = ledger, tracker, config.bounds, 0.0
        self._standing = Standing(config, lambda: ledger.reference)
        self._units: defaultdict[str, dict[str, TrialRecord]] = defaultdict(dict)  # by the number of the first

    def catch_up(self) -> None:
        """Mirrors the whole ledger; what MLflow already has is not written again."""
        records = self._ledger.records()
        for record in records:
            self._take(record)
        for record in records:
            self._show(record)
        ended = [record for record in records if record.finished is not None]
        for record in sorted(ended, key=lambda record: (record.finished or 0.0, record.number)):
            self._summarize(record)

    def started(self, record: TrialRecord) -> None:
        self._show(record)

    def epoch_finished(self, number: str, metrics: dict[str, float]) -> None:
        del metrics
        self._show(self._ledger.record(number))

    def ended(self, record: TrialRecord) -> None:
        self._take(record)
        self._show(record)
        first = None if record.extends is None else self._units[record.extends].get(record.extends)
        if first is not None:  # its run shows the whole setting
            self._show(first)
        self._summarize(record)
        self.tracker.front([setting.number for setting in self._standing.front])

    audited = ended

    def results(self, results: Results) -> None:
        """Shows what the sweep has found: the final front, the summary, and the written files."""
        self.tracker.front([setting.number for setting in results.front])
        self.tracker.results(summary_text(results), front_json(results))
        for path in results.files:
            self.tracker.artifact(path)

    def _take(self, record: TrialRecord) -> None:
        self._units[record.extends or record.number][record.number] = record

    def _show(self, record: TrialRecord) -> None:
        self.tracker.update(record, self._ledger.history(record.number), self._setting(record))

    def _setting(self, record: TrialRecord) -> Setting | None:
        """The setting of a first unit, by the numbers to use; None for other units and before it is complete."""
        if record.extends is not None or record.state != "complete":
            return None
        units = in_order(self._units[record.number].values())
        (setting,) = settings_of(units, self._bounds)
        audits = sum(unit.verdict is not None for unit in units)
        return Setting(setting, sum(unit.state == "complete" for unit in units) + audits)

    def _summarize(self, record: TrialRecord) -> None:
        """Adds a point to the sweep's curves for every unit that has ended and for every audit."""
        assert record.finished is not None
        standing = self._standing
        standing.add(record)
        self._last_end = max(self._last_end, record.finished)
        if record.origin is None and record.state in ("complete", "pruned"):
            # The curves follow the state alone, so that a resumed driver repeats no point.
            step = standing.finished + standing.baselines + standing.extensions + standing.audits
            values = {
                "trials_finished": standing.finished,
                "trials_infeasible": standing.infeasible,
                "trials_failed": standing.failed,
                "hypervolume": standing.hypervolume,
                **{f"best_{name}": best.objectives[name] for name, best in standing.best.items()},
            }
            self.tracker.summary(values, step, self._last_end)
