"""The pictures of a run, one report per file. Each file registers its report, and every report is drawn."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from analysis.hypervolume import Reference
from analysis.records import TrialRecord
from search.results.final import settings_of
from search.results.titles import radius_title
from search.runs.folder import Run


@dataclass(frozen=True)
class RunData:
    """What a report draws from.

    Args:
        run: The run.
        units: Its units.
        history: Gives the metrics of each finished epoch of a unit.
        reference: What the hypervolume is measured from; None while a baseline is missing.
    """

    run: Run
    units: Sequence[TrialRecord]
    history: Callable[[str], Sequence[Mapping[str, float]]] = lambda _: ()
    reference: Reference | None = None

    @cached_property
    def settings(self) -> list[TrialRecord]:
        """One record per setting, with the numbers to use."""
        return settings_of(self.units, self.run.config.bounds)

    @property
    def title(self) -> str:
        """What was measured, e.g. ``quickstart: lenet5 on mnist5k, 6 epochs; L2 epsilon = 1.5, 500 images``."""
        config, robustness = self.run.config, self.run.config.robustness
        return (
            f"{config.name}: {config.model.title} on {config.data.dataset.title}, {config.train.epochs} epochs; "
            f"{radius_title(robustness)} = {robustness.epsilons[0]:g}, {robustness.images} images"
        )


@dataclass(frozen=True)
class Drawn:
    """What a report has drawn: its files, and a line for people if it could not draw everything."""

    files: tuple[Path, ...] = ()
    note: str | None = None


Report = Callable[[RunData], Drawn]
_REPORTS: Final[dict[str, Report]] = {}


def register(name: str) -> Callable[[Report], Report]:
    """Registers a report under the name of its file."""

    def decorate(report: Report) -> Report:
        _REPORTS[name] = report
        return report

    return decorate


def names() -> tuple[str, ...]:
    """The names of the reports, in alphabetical order."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py")))


def draw(name: str, data: RunData) -> Drawn:
    """Draws one report into the run's ``figures``."""
    importlib.import_module(f"{__name__}.{name}")
    return _REPORTS[name](data)
