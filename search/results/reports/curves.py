"""The learning curves of all settings."""

from __future__ import annotations

from analysis.figures import Drawn
from search.results.writing import RunData


def draw(data: RunData) -> Drawn:
    """Draws loss and accuracy over the epochs of each setting's first unit."""
    import pandas as pd

    from analysis.figures.curves import draw_learning_curves
    from analysis.frames import to_frame

    epochs = pd.DataFrame(
        [{"number": setting.number, **epoch} for setting in data.settings for epoch in data.history(setting.number)]
    )
    if epochs.empty:
        return Drawn()
    frame, curves = to_frame(data.settings), epochs.drop(columns=["time", "seconds"])
    return Drawn(draw_learning_curves(curves, frame, data.run.config.domains, data.run.figures, title=data.title))
