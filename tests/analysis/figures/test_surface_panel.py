from __future__ import annotations

import numpy as np

from analysis.figures.style import complete
from analysis.figures.surface_panel import panel_of
from analysis.frames import to_frame
from analysis.gaussian_process import values_at
from analysis.surfaces import Slice
from tests.analysis.examples import MIXED_DOMAINS, SM_DOMAINS, mixed_run, scattered_run


def test_the_accuracies_are_drawn_where_they_were_measured() -> None:
    """The page's dots are the table's numbers, in percent."""
    frame = to_frame(scattered_run())
    search = complete(frame, "search")
    panel = panel_of(frame, search, SM_DOMAINS, Slice(("s", "m"), {}), "robust_accuracy")
    np.testing.assert_allclose(panel.values, 100 * search["robust_accuracy"])
    np.testing.assert_allclose(panel.points, search[["s", "m"]])
    assert panel.typical.all()
    first, second = panel.beside([panel, panel]), panel.beside([panel])
    assert first.limits == second.limits
    assert first.limits[0] < panel.low.min()
    assert panel.high.max() < first.limits[1]


def test_axes_show_the_parameter_and_not_its_logarithm() -> None:
    frame = to_frame(mixed_run())
    search = complete(frame, "search")
    drawn = Slice(("train.learning_rate", "s"), {"defence.name": "none"})
    panel = panel_of(frame, search, MIXED_DOMAINS, drawn, "robust_accuracy")
    rate = panel.axes["train.learning_rate"]
    assert (rate.log, panel.axes["s"].log) == (True, False)
    np.testing.assert_allclose(values_at(panel.points[:, 0], rate), search["train.learning_rate"])
    assert list(panel.typical) == list(search["defence.name"] == "none")
