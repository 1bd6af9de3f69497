"""Writes what a run gives back: tables, the Pareto-optimal settings and the pictures of every report."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from analysis.export import export_front
from analysis.figures import Drawn
from analysis.frames import write_frame, write_settings
from analysis.hypervolume import Reference
from analysis.records import TrialRecord
from search.results import reports
from search.results.answer import Answered, answer_of, read_answer, write_answer
from search.results.final import settings_of
from search.results.front import front_of
from search.results.intervals import with_intervals
from search.results.standing import Standing
from search.results.text import run_title
from search.runs.folder import Run, RunFolder
from search.runs.layout import FRONT_FILE, SETTINGS_FILE, SWEEP_FILE, TABLE_FILE
from trainables import files

_DRAWING: Final = (
    "analysis.figures.surfaces",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mpl_toolkits.mplot3d.art3d",
    "plotly.graph_objects",
    "plotly.subplots",
)


@dataclass(frozen=True)
class RunData:
    """What a report draws from: a run's units, and the metrics of each finished epoch of a unit by its number.

    The hypervolume is measured from ``reference``; None while a baseline is missing.
    """

    run: RunFolder
    units: Sequence[TrialRecord]
    history: Callable[[str], Sequence[Mapping[str, float]]] = lambda _: ()
    reference: Reference | None = None

    @cached_property
    def settings(self) -> list[TrialRecord]:
        """One record per setting, with the numbers to use."""
        return with_intervals(self.run, self.units, settings_of(self.units, self.run.config.bounds))

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The settings on the front, by the answer if there is one."""
        return front_of(self.settings, self.run.config, read_answer(self.run))

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        return run_title(self.run.config)


@dataclass(frozen=True)
class Results:
    """A run's results on disk and in memory."""

    data: RunData
    standing: Standing
    files: list[Path]
    notes: list[str]  # on pictures that could not be drawn
    answered: Answered | None  # None without a complete, feasible setting
    stopped: str | None  # the criterion that ended the search before its budget, if one did

    @property
    def settings(self) -> list[TrialRecord]:
        """One record per setting, with the numbers to use."""
        return self.data.settings

    @property
    def front(self) -> list[TrialRecord]:
        """The settings on the front."""
        return self.data.front

    @property
    def recommended(self) -> TrialRecord | None:
        """The recommended setting; None with only one seed, which is too few to recommend any."""
        if self.answered is None or self.answered.answer.this_network_only:
            return None
        number = self.answered.number(self.answered.answer.recommended.setting)
        return next(record for record in self.settings if record.number == number)


def write_tables(run: Run, units: Sequence[TrialRecord]) -> list[Path]:
    """Writes all tables and ``pareto.yaml``; quick, so that an interrupted run has them."""
    return _write_tables(RunData(run, units))


def _write_tables(data: RunData) -> list[Path]:
    run, front = data.run, data.front
    answer = read_answer(run)
    write_frame(with_intervals(run, data.units, data.units), run.folder)
    write_settings(data.settings, front, answer, run.folder)
    files.write(
        run.folder / FRONT_FILE, export_front(front, run.config.objectives, "yaml", trainable(run), answer=answer)
    )
    written = [run.folder / name for name in (run.config_file, TABLE_FILE, "trials.parquet", SETTINGS_FILE, FRONT_FILE)]
    run.share(*written)
    return written


def trainable(run: RunFolder) -> str | None:
    """The configuration that trains a setting of the run again, relative to its folder; None of an imported run."""
    return SWEEP_FILE if isinstance(run, Run) else None


def draw(report: str, data: RunData) -> Drawn:
    """Draws one report into the run's ``figures``."""
    drawn: Drawn = importlib.import_module(f"{reports.__name__}.{report}").draw(data)
    return drawn


def write_results(
    run: RunFolder,
    units: Sequence[TrialRecord],
    history: Callable[[str], Sequence[Mapping[str, float]]],
    reference: Reference | None,
    stopped: str | None = None,
) -> Results:
    """Writes the tables and draws every report; arguments as in ``RunData`` and ``Results``."""
    answered = answer_of(run.config, run.folder, units)
    if answered is not None:
        write_answer(run, answered)
    data = RunData(run, units, history, reference)
    drawn = [draw(module.name, data) for module in pkgutil.iter_modules(reports.__path__)]  # by name
    figures = [path for each in drawn for path in each.files]
    run.share(*figures)
    return Results(
        data=data,
        standing=Standing.of(units, run.config, lambda: reference),
        files=[*_write_tables(data), *figures],
        notes=[each.note for each in drawn if each.note],
        answered=answered,
        stopped=stopped,
    )


@functools.cache
def preload_drawing() -> None:
    """Starts to import what draws, in the background, while the last trials leave a processor idle."""

    def load() -> None:
        for module in _DRAWING:
            importlib.import_module(module)

    threading.Thread(target=load, name="drawing-import", daemon=True).start()
