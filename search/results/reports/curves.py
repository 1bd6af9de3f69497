"""The learning curves of all settings."""

from __future__ import annotations

from search.results.reports import Drawn, RunData, register


@register("curves")
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
    frame, config = to_frame(data.settings), data.run.config
    curves = epochs.drop(columns=["time", "seconds"])
    return Drawn(tuple(draw_learning_curves(curves, frame, config.domains, data.run.figures, title=data.title)))
