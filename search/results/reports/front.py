"""The Pareto front among all settings, with the baselines."""

from __future__ import annotations

from search.results.reports import Drawn, RunData


def draw(data: RunData) -> Drawn:
    """Draws every setting by its objectives, and marks the front and what is claimed only."""
    from analysis import to_frame
    from analysis.figures import draw_pareto

    config, frame = data.run.config, to_frame(data.settings)
    return Drawn(draw_pareto(frame, config.objectives, config.domains, data.run.figures, title=data.title))
