"""The Pareto front among all settings, with the baselines."""

from __future__ import annotations

from analysis.figures import Drawn
from search.results.writing import RunData


def draw(data: RunData) -> Drawn:
    """Draws every setting by its objectives, and marks the front and what is claimed only.

    In a sweep that confirms, the front and the baselines have their confirmed values.
    """
    from analysis.figures.pareto import Chosen, draw_pareto
    from analysis.frames import to_frame

    config, settings, chosen = data.run.config, data.settings, None
    if config.search.confirmation_seeds:
        front = [record.number for record in data.front]
        shown = [record for record in settings if record.number in front or record.is_baseline]
        confirmed = [record.number for record in shown if record.confirmed is not None]
        settings = [(record in shown and record.confirmed) or record for record in settings]
        chosen = Chosen(front, confirmed)
    title, figures = data.title, data.run.figures
    return Drawn(
        draw_pareto(to_frame(settings), config.objectives, config.domains, figures, title=title, chosen=chosen)
    )
