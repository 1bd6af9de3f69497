"""The Pareto front among all settings, with the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import Drawn
from search.results.writing import RunData

if TYPE_CHECKING:
    from analysis.figures.style import Picture


def draw(data: RunData) -> Drawn:
    """Draws ``picture``."""
    return Drawn(picture(data).save(data.run.figures / "pareto"))


def picture(data: RunData) -> Picture:
    """Every setting by its objectives; the front and what is claimed only are marked.

    In a sweep that confirms, the front and the baselines have their confirmed values.
    """
    from analysis.figures.pareto import Chosen, pareto_picture
    from analysis.frames import to_frame

    config, settings, chosen = data.run.config, data.settings, None
    if config.search.confirmation_seeds:
        front = [record.number for record in data.front]
        shown = [record for record in settings if record.number in front or record.is_baseline]
        searched = to_frame([record for record in shown if record.confirmed is not None])
        settings = [(record in shown and record.confirmed) or record for record in settings]
        chosen = Chosen(front, searched)
    return pareto_picture(to_frame(settings), config.objectives, config.domains, title=data.title, chosen=chosen)
