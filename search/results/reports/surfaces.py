"""Clean and robust accuracy, and that under each attack, over two parameters: the paper's Figure 4."""

from __future__ import annotations

from dataclasses import replace

from analysis.figures import Drawn
from analysis.records import TrialRecord
from search.results.final import pooled
from search.results.intervals import with_intervals
from search.results.writing import RunData
from trainables.metrics import AUDITED


def draw(data: RunData) -> Drawn:
    """Draws ``claims``."""
    from analysis.figures.surfaces import draw_surfaces
    from analysis.frames import to_frame

    config, frame = data.run.config, to_frame(claims(data))
    return draw_surfaces(frame, config.objectives, config.domains, data.run.figures, title=data.title)


def claims(data: RunData) -> list[TrialRecord]:
    """The claims of all settings: a surface needs many, and few are audited."""
    return [
        replace(setting, accuracies={name: value for name, value in setting.accuracies.items() if name != AUDITED})
        for setting in with_intervals(data.run, data.units, pooled(data.units, data.run.config.bounds))
    ]
