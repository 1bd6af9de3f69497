"""The learning curves of all settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import Drawn
from search.results.writing import RunData

if TYPE_CHECKING:
    import pandas as pd

    from analysis.figures.style import Picture


def draw(data: RunData) -> Drawn:
    """Draws ``picture``."""
    epochs = epochs_of(data)
    return Drawn() if epochs.empty else Drawn(picture(data, epochs).save(data.run.figures / "learning-curves"))


def epochs_of(data: RunData) -> pd.DataFrame:
    """Every epoch of each setting's first unit; empty if there is none."""
    import pandas as pd

    epochs = pd.DataFrame(
        [{"number": setting.number, **epoch} for setting in data.settings for epoch in data.history(setting.number)]
    )
    return epochs.drop(columns=["time", "seconds"], errors="ignore")


def picture(data: RunData, epochs: pd.DataFrame) -> Picture:
    """Loss and accuracy over ``epochs_of``."""
    from analysis.figures.curves import learning_curves_picture
    from analysis.frames import to_frame

    return learning_curves_picture(epochs, to_frame(data.settings), data.run.config.domains, title=data.title)
