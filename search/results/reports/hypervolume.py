"""The growth of the front's hypervolume."""

from __future__ import annotations

from analysis.figures import Drawn
from analysis.hypervolume import hypervolume_trace
from search.results.writing import RunData


def draw(data: RunData) -> Drawn:
    """Draws the hypervolume over the settings, in the order in which they finished."""
    from analysis.figures.curves import draw_hypervolume

    if data.reference is None:
        if not data.run.config.baselines:
            return Drawn()
        return Drawn(note="hypervolume: no picture, because a baseline has not finished")
    trace = hypervolume_trace(data.settings, data.run.config.objectives, data.reference)
    return Drawn(draw_hypervolume(trace, data.run.figures, title=data.title, reference=data.reference))
