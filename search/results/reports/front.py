"""The Pareto front among all settings, with the baselines."""

from __future__ import annotations

from search.results.reports import Drawn, RunData, register


@register("front")
def draw(data: RunData) -> Drawn:
    """Draws every setting by its objectives, and marks the front and what is claimed only."""
    from analysis.figures.pareto import draw_pareto
    from analysis.frames import to_frame

    config, figures = data.run.config, data.run.figures
    frame = to_frame(data.settings)
    return Drawn(tuple(draw_pareto(frame, config.objectives, config.domains, figures, title=data.title)))
