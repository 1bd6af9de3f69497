"""The Pareto front among all settings, with the baselines."""

from __future__ import annotations

from analysis.figures import Drawn
from search.results.writing import RunData


def draw(data: RunData) -> Drawn:
    """Draws every setting by its objectives, and marks the front and what is claimed only."""
    from analysis.figures.pareto import draw_pareto
    from analysis.frames import to_frame

    config, frame = data.run.config, to_frame(data.settings)
    return Drawn(draw_pareto(frame, config.objectives, config.domains, data.run.figures, title=data.title))
