"""Writes what a run gives back: tables, the Pareto-optimal settings and pictures."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from analysis.export import export_front
from analysis.frames import write_frame
from analysis.hypervolume import Reference
from analysis.pareto import pareto_front
from analysis.records import TrialRecord
from search.results import reports
from search.results.final import settings_of
from search.results.standing import Standing
from search.runs.folder import SWEEP_FILE, Run
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
class Results:
    """A run's results on disk and in memory.

    Args:
        settings: One record per setting, by ``final.settings_of``.
        front: The Pareto-optimal ones.
        standing: Counts and hypervolume of the same numbers.
        files: The files written.
        notes: Lines for people on what could not be drawn.
        stopped: The criterion that ended the search before its budget, if one did.
    """

    settings: list[TrialRecord]
    front: list[TrialRecord]
    standing: Standing
    files: list[Path]
    notes: list[str]
    stopped: str | None


def write_tables(run: Run, units: Sequence[TrialRecord]) -> list[Path]:
    """Writes ``trials.csv``, ``trials.parquet`` and ``pareto.yaml``; quick, so that an interrupted run has them."""
    write_frame(units, run.folder)
    front = pareto_front(settings_of(units, run.config.bounds), run.config.objectives)
    # The commands are to be run in the run's folder, wherever that is.
    files.write(run.folder / "pareto.yaml", export_front(front, run.config.objectives, "yaml", SWEEP_FILE))
    written = [run.folder / name for name in (SWEEP_FILE, "trials.csv", "trials.parquet", "pareto.yaml")]
    run.share(*written)
    return written


def write_results(
    run: Run,
    units: Sequence[TrialRecord],
    history: Callable[[str], Sequence[Mapping[str, float]]],
    reference: Reference | None,
    stopped: str | None = None,
) -> Results:
    """Writes the tables and draws every report.

    Args:
        run: The run.
        units: Its units.
        history: Gives the metrics of each finished epoch of a unit.
        reference: What the hypervolume is measured from.
        stopped: As in ``Results``.
    """
    data = reports.RunData(run, units, history, reference)
    drawn = [reports.draw(name, data) for name in reports.names()]
    figures = [path for each in drawn for path in each.files]
    run.share(*figures)
    return Results(
        settings=data.settings,
        front=pareto_front(data.settings, run.config.objectives),
        standing=Standing.of(units, run.config, lambda: reference),
        files=[*write_tables(run, units), *figures],
        notes=[each.note for each in drawn if each.note],
        stopped=stopped,
    )


@functools.cache
def preload_drawing() -> None:
    """Starts to import what draws, in the background, while the last trials leave a processor idle."""

    def load() -> None:
        for module in _DRAWING:
            importlib.import_module(module)

    threading.Thread(target=load, name="drawing-import", daemon=True).start()
