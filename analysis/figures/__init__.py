"""Pictures of a run: the front, the learning curves, the hypervolume, the surfaces, accuracy over the radius.

Each is a PNG and an offline HTML page. Importing this package imports pandas, but neither matplotlib nor plotly.
"""

from analysis.figures.curves import draw_learning_curves
from analysis.figures.epsilon import draw_epsilon_curves
from analysis.figures.hypervolume import draw_hypervolume
from analysis.figures.pareto import draw_pareto
from analysis.figures.style import BLUE, GREY, INK, RULE, measure_label, style_axes
from analysis.figures.surfaces import Surfaces, draw_surfaces

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "RULE",
    "Surfaces",
    "draw_epsilon_curves",
    "draw_hypervolume",
    "draw_learning_curves",
    "draw_pareto",
    "draw_surfaces",
    "measure_label",
    "style_axes",
]
