"""Clean and robust accuracy, and that under each attack, over two parameters: the paper's Figure 4."""

from __future__ import annotations

from dataclasses import replace

from analysis.records import TrialRecord
from search.results.pooling import pooled
from search.results.reports import Drawn, RunData, register
from trainables.metrics import AUDITED


@register("surfaces")
def draw(data: RunData) -> Drawn:
    """Draws the claims of all settings: a surface needs many, and few are audited."""
    from analysis.figures.surfaces import draw_surfaces
    from analysis.frames import to_frame

    config = data.run.config
    claims = [_claim(setting) for setting in pooled(data.units, config.bounds)]
    drawn = draw_surfaces(to_frame(claims), config.objectives, config.domains, data.run.figures, title=data.title)
    return Drawn(tuple(drawn.files), drawn.note)


def _claim(setting: TrialRecord) -> TrialRecord:
    accuracies = {name: value for name, value in setting.accuracies.items() if name != AUDITED}
    return replace(setting, accuracies=accuracies)
