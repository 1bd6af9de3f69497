"""The pictures of a run. Each file of this folder is one report: its ``draw`` takes a ``RunData``, gives ``Drawn``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.hypervolume import Reference
from analysis.records import TrialRecord
from search.results.final import settings_of
from search.results.text import radius_title
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
    """The files that a report has drawn, and a line for people if it could not draw everything."""

    files: Sequence[Path] = ()
    note: str = ""


def names() -> list[str]:
    """The names of the reports, in alphabetical order."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def draw(name: str, data: RunData) -> Drawn:
    """Draws one report into the run's ``figures``."""
    drawn: Drawn = importlib.import_module(f"{__name__}.{name}").draw(data)
    return drawn
