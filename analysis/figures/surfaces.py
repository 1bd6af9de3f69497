"""The accuracy surfaces over two parameters, as in Figure 4 of Song, Wang, He and Zhou 2022.

Measurements are dots with 95 % intervals. A fitted surface is labelled as such and shows its uncertainty; an exact grid
is drawn as it is. There is one picture per measure, one of all measures, and one interactive page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.figures import Drawn, style
from analysis.figures.style import COLOURS, GREY, HEADLINE, INK, RULE, Array, Picture, Scale
from analysis.figures.surface_page import interactive
from analysis.frames import measures, rows_of, tidied
from analysis.pareto import is_nondominated
from analysis.surfaces import BAND, FEWEST_FOR_A_FIT, Slice, Surface, observation_noise, plan_slice, positions, surface
from trainables.metrics import ROBUST, Direction, is_of_one_attack, is_under_attack
from trainables.settings.space import Domain, Range

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

_COLOUR_MAP: Final = "viridis"  # dark to light in any colour vision and in print
_EDGES: Final = ("-", (0, (4, 3)))  # of the baselines' planes, so that two at the same height are both seen
_MOST_FILLED: Final = 4  # planes; more of them hide what lies between
_VIEW: Final = {"elev": 22.0, "azim": -125.0}
_TICKS: Final = 5


@dataclass(frozen=True)
class Baseline:
    """A baseline's height in a picture."""

    name: str
    value: float
    colour: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One measure over two parameters, in the unit that is shown. Positions are logarithms where a domain's are."""

    measure: str
    axes: Mapping[str, Range]  # the two parameters
    scale: Scale
    points: Array  # positions on the axes, (n, 2)
    values: Array  # (n,)
    low: Array  # (n,); the value itself without an interval
    high: Array
    typical: npt.NDArray[np.bool_]  # (n,); whether its categories are those that the surface is drawn for
    hover: Sequence[str]
    surface: Surface | None
    baselines: Sequence[Baseline]
    limits: tuple[float, float] = (0.0, 1.0)  # of the z-axis
    colours: tuple[float, float] = (0.0, 1.0)  # the values at the ends of the colour map

    @property
    def label(self) -> str:
        return self.scale.name(self.measure)

    def band(self) -> tuple[Array, Array] | None:
        """The fit's lower and upper surface; fractions stay in [0, 100] %."""
        if self.surface is None or self.surface.sd is None:
            return None
        edges = [self.surface.mean + sign * BAND * self.surface.sd for sign in (-1.0, 1.0)]
        low, high = (np.clip(edge, 0.0, 100.0) if self.scale.unit else edge for edge in edges)
        return low, high

    def heights(self) -> Array:
        """All heights that are drawn."""
        parts = [self.low, self.high, np.array([baseline.value for baseline in self.baselines])]
        if self.surface is not None:
            parts.extend(self.band() or (self.surface.mean,))
        return np.concatenate([part.ravel() for part in parts])

    def ranges(self) -> list[tuple[float, float]]:
        """The limits of the two parameters' axes, with a little room."""
        ends = []
        for along in self.points.T:
            room = 0.03 * float(np.ptp(along)) or 1e-3 * max(1.0, float(np.abs(along).max()))
            ends.append((float(along.min()) - room, float(along.max()) + room))
        return ends

    def beside(self, group: Sequence[Panel]) -> Panel:
        """This panel with the z-axis and the colour scale that a group, which it belongs to, shares."""
        heights = np.concatenate([each.heights() for each in group])
        low, high = float(heights.min()), float(heights.max())
        room = 0.04 * (high - low) or 1e-3 * max(1.0, abs(high))
        low, high = low - room, high + room
        if self.scale.unit:
            low, high = max(low, 0.0), min(high, 100.0)
        values = np.concatenate(
            [(each.values if each.surface is None else each.surface.mean).ravel() for each in group]
        )
        return replace(self, limits=(low, high), colours=(float(values.min()), float(values.max())))


def draw_surfaces(
    frame: pd.DataFrame, objectives: Mapping[str, Direction], domains: Mapping[str, Domain], folder: Path, *, title: str
) -> Drawn:
    """Draws every measure over two numeric parameters, in the order of ``domains``.

    With more than two, the most important ones are drawn (see ``plan_slice``), and the others stand at the front's
    median or most common category. Complete trials are drawn; the number of others is given.

    Returns:
        ``surfaces.png`` (all measures), ``surfaces.html`` (interactive, offline), then ``surface-MEASURE.png`` for each
        measure (``/`` in its name becomes ``-``); none if nothing can be drawn. The note says why, or gives the choice
        of the two parameters and the values of the others; it is empty if there are exactly two parameters.
    """
    planned = plan_panels(frame, objectives, domains)
    if isinstance(planned, str):
        return Drawn(note=planned)
    panels, plan = planned
    note = how_to_read(frame, panels, plan)
    overview = _picture(panels, note, title)
    files = [
        overview.save_png(folder / "surfaces.png"),
        style.save_html(overview.interactive, folder / "surfaces.html", title=f"Surfaces, {title}", note=note),
    ]
    for panel in panels:
        picture = panel_figure(panel)
        style.headline(picture, panel.label, title, note)
        files.append(style.save_png(picture, folder / f"surface-{panel.measure.replace('/', '-')}.png"))
    return Drawn(files, plan.note())


def surfaces_picture(
    frame: pd.DataFrame, objectives: Mapping[str, Direction], domains: Mapping[str, Domain], *, title: str
) -> Picture:
    """All measures over two parameters, as in ``draw_surfaces``. Raises ``ValueError`` if nothing can be drawn."""
    planned = plan_panels(frame, objectives, domains)
    if isinstance(planned, str):
        raise ValueError(planned)
    panels, plan = planned
    return _picture(panels, how_to_read(tidied(frame, objectives), panels, plan), title)


def _picture(panels: Sequence[Panel], note: str, title: str) -> Picture:
    """The overview of the panels and their interactive page. Panels of attacks share axis and colours."""
    attacked = [panel for panel in panels if is_under_attack(panel.measure)]
    alike = [panel.beside(attacked if is_under_attack(panel.measure) else [panel]) for panel in panels]
    heading = f"Surfaces over {' and '.join(panels[0].axes)}"
    shared = "The worst case and the attacks share axis and colours." if len(attacked) > 1 else ""
    return Picture(_overview(alike), interactive(alike, title), heading, title, style.sentences(note, shared))


def plan_panels(
    frame: pd.DataFrame, objectives: Mapping[str, Direction], domains: Mapping[str, Domain]
) -> tuple[list[Panel], Slice] | str:
    """The panels of all measures and the choice of their two parameters, or one line that says why there are none."""
    frame = tidied(frame, objectives)
    search = style.complete(frame, "search")
    known = [name for name in domains if name in search.columns]
    search = search.dropna(subset=known).reset_index(drop=True) if len(known) == len(domains) else search.iloc[:0]
    rows = rows_of(search)
    values = [search[name].to_numpy(dtype=np.float64) for name in objectives] if rows else []
    on_front = is_nondominated(np.transpose(values), list(objectives.values()), search["violation"])
    front = [row for row, best in zip(rows, on_front, strict=True) if best]
    plan = plan_slice(rows, front, values, domains)
    if isinstance(plan, str):
        return plan
    return [panel_of(frame, search, domains, plan, measure) for measure in _distinct(search)], plan


def how_to_read(frame: pd.DataFrame, panels: Sequence[Panel], plan: Slice) -> str:
    """A note that explains the dots and surfaces of the panels."""
    return style.sentences(_note(panels[0], plan), style.coverage(frame))


def panel_of(
    frame: pd.DataFrame, search: pd.DataFrame, domains: Mapping[str, Domain], drawn: Slice, measure: str
) -> Panel:
    """The panel of a measure; ``search`` are the complete trials of ``frame`` that have every parameter."""
    scale = style.scale_of(frame, measure)
    rows = rows_of(search)
    values, low, high = (
        scale.factor * search[f"{measure}{suffix}"].to_numpy(dtype=np.float64) for suffix in ("", "_low", "_high")
    )
    noise = observation_noise(search, measure)
    noise = None if noise is None else scale.factor**2 * noise
    categories = {name: value for name, value in drawn.fixed.items() if not isinstance(domains[name], Range)}
    baselines = rows_of(style.complete(frame, "baseline"))
    return Panel(
        measure=measure,
        axes=drawn.axes,
        scale=scale,
        points=positions(rows, drawn.axes),
        values=values,
        low=np.where(np.isnan(low), values, low),
        high=np.where(np.isnan(high), values, high),
        typical=np.array([all(row[name] == value for name, value in categories.items()) for row in rows]),
        hover=[style.hover_text(row, domains, {measure: scale}) for row in rows],
        surface=surface(rows, values, noise, domains, drawn),
        baselines=[
            Baseline(
                name=style.trial_label(row, domains),
                value=scale.factor * row[measure],
                colour=COLOURS[i % len(COLOURS)],
                text=style.hover_text(row, domains, {measure: scale}),
            )
            for i, row in enumerate(baselines)
        ],
    )


def _distinct(search: pd.DataFrame) -> list[str]:
    """The measures that all rows have, except those equal to the worst case, e.g. that of the only attack."""
    return [
        measure
        for measure in measures(search)
        if search[measure].notna().all()
        and not (is_of_one_attack(measure) and np.array_equal(search[measure], search[ROBUST]))
    ]


def _note(panel: Panel, plan: Slice) -> str:
    n = len(panel.values)
    dots = f"Dots: {n} measured setting{'s' * (n != 1)} with 95 % intervals."
    hollow = "" if panel.typical.all() else "Hollow dots: another category."
    if panel.surface is None:
        reason = f"too few (below {FEWEST_FOR_A_FIT})" if n < FEWEST_FOR_A_FIT else "not spread over both parameters"
        kind = f"No surface is fitted: the settings are {reason}."
    elif panel.surface.fitted:
        kind = f"Surface: a Gaussian-process fit; grey: its ± {BAND:g} standard deviations."
    else:
        kind = f"Surface: the exact grid of {panel.surface.mean.size} settings, no fit."
    return style.sentences(dots, hollow, kind, plan.note())


def panel_figure(panel: Panel, size: float = 1.0) -> Figure:
    """One panel with axes and a legend of its own, below an empty headline; ``size`` scales all but the text."""
    panel = panel.beside([panel])
    width, tall = 7.6 * size, 5.58 * size  # inches
    height = tall + 0.62
    handles = _handles(panel, values=True)
    columns, foot = style.legend_size(handles, width, 8.5)
    height += foot
    figure = style.empty_figure(width, height)
    axes = figure.add_axes((0.02, (0.2 + foot) / height, 0.96, tall / height), projection="3d")
    _draw(axes, panel, zoom=1.0, labelsize=9)
    figure.legend(handles=handles, loc="lower center", ncols=columns, frameon=False, fontsize=8.5)
    return figure


def _overview(panels: Sequence[Panel]) -> Figure:
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width, height = 4.2, 3.7  # inches
    handles = _handles(panels[0], values=False)
    entries, foot = style.legend_size(handles, columns * width, 9)
    foot += 0.4
    total = HEADLINE + foot + rows * height
    figure = style.empty_figure(columns * width, total)
    for i, panel in enumerate(panels):
        row, column = divmod(i, columns)
        bottom = foot + (rows - 1 - row) * height
        box = (column / columns, bottom / total, 1 / columns, height / total)
        _draw(figure.add_axes(box, projection="3d"), panel, zoom=0.97, labelsize=7.5)
        middle, top = (column + 0.5) / columns, (bottom + height - 0.25) / total
        figure.text(middle, top, panel.label, ha="center", size=10, weight="bold", color=INK)
    figure.legend(handles=handles, loc="lower center", ncols=entries, frameon=False, fontsize=9)
    return figure


def _draw(axes: Any, panel: Panel, *, zoom: float, labelsize: float) -> None:
    """Draws a panel on 3D axes. Depth is ordered by hand: matplotlib sorts whole artists by their mean depth."""
    axes.computed_zorder = False
    axes.view_init(**_VIEW)
    axes.set_box_aspect((1.15, 1.15, 0.85), zoom=zoom)
    _draw_surface(axes, panel)
    _draw_planes(axes, panel)
    _draw_dots(axes, panel, size=2.2 * labelsize)
    _label(axes, panel, labelsize)


def _draw_surface(axes: Any, panel: Panel) -> None:
    drawn = panel.surface
    if drawn is None:
        return
    mesh = np.meshgrid(drawn.x, drawn.y)
    band = panel.band()
    if band is not None:
        for edge, order in zip(band, (2, 6), strict=True):
            axes.plot_wireframe(*mesh, edge, rcount=9, ccount=9, color=GREY, lw=0.5, alpha=0.55, zorder=order)
    axes.plot_surface(
        *mesh,
        drawn.mean,
        rcount=len(drawn.y),
        ccount=len(drawn.x),
        cmap=_COLOUR_MAP,
        vmin=panel.colours[0],
        vmax=panel.colours[1],
        alpha=0.88,
        lw=0 if drawn.fitted else 0.4,
        edgecolor="none" if drawn.fitted else "white",
        antialiased=not drawn.fitted,
        zorder=4,
    )


def _draw_planes(axes: Any, panel: Panel) -> None:
    (x0, x1), (y0, y1) = panel.ranges()
    corners = np.meshgrid((x0, x1), (y0, y1))
    outline = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
    for i, baseline in enumerate(panel.baselines):
        if len(panel.baselines) <= _MOST_FILLED:
            plane = np.full((2, 2), baseline.value)
            axes.plot_surface(*corners, plane, color=baseline.colour, alpha=0.10, lw=0, zorder=3)
        edge = _EDGES[i % len(_EDGES)]
        axes.plot(*outline, [baseline.value] * 5, color=baseline.colour, lw=1.2, ls=edge, zorder=3)


def _draw_dots(axes: Any, panel: Panel, size: float) -> None:
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    x, y = panel.points.T
    above = np.ones(len(x), dtype=bool)
    if panel.surface is not None:
        above = ~(panel.values < panel.surface.at(panel.points))
    for mask, order in ((~above, 3), (above, 7)):
        bars = np.stack([np.stack([x, y, end], axis=1)[mask] for end in (panel.low, panel.high)], axis=1)
        lines = Line3DCollection(bars, colors=INK, linewidths=0.7, alpha=0.6, zorder=order)
        axes.add_collection3d(lines, autolim=False)
        for kind, face, edge in ((panel.typical, INK, "white"), (~panel.typical, "white", INK)):
            dots = (along[mask & kind] for along in (x, y, panel.values))
            axes.scatter(*dots, s=size, color=face, edgecolor=edge, lw=0.5, depthshade=False, zorder=order + 1)


def _label(axes: Any, panel: Panel, labelsize: float) -> None:
    from matplotlib.ticker import MaxNLocator

    x_range, y_range = panel.ranges()
    (x_name, x_domain), (y_name, y_domain) = panel.axes.items()
    axes.set(xlim=x_range, ylim=y_range, zlim=panel.limits)
    axes.set_xlabel(x_name, fontsize=labelsize + 1)
    axes.set_ylabel(y_name, fontsize=labelsize + 1)
    if panel.scale.unit:
        axes.zaxis.set_major_formatter(lambda value, _: f"{value:g}{panel.scale.unit}")
    axes.tick_params(labelsize=labelsize, colors=INK, pad=0)
    axes.tick_params(axis="z", pad=4)
    axes.zaxis.set_major_locator(MaxNLocator(_TICKS))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis._axinfo["grid"].update(color=RULE, linewidth=0.7)
    _set_ticks(axes.xaxis, x_domain)
    _set_ticks(axes.yaxis, y_domain)
    # The lowest labels of x and y would meet in the corner in front.
    low, high = y_range
    axes.set_yticks([tick for tick in axes.get_yticks() if low + 0.05 * (high - low) < tick <= high])


def _set_ticks(axis: Any, domain: Range) -> None:
    """Ticks at round values: matplotlib's own 3D axes know no logarithms."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if not domain.log:
        axis.set_major_locator(MaxNLocator(_TICKS, integer=domain.integer))
        return
    low, high = axis.get_view_interval()
    for subs in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        values = LogLocator(subs=subs, numticks=20).tick_values(10**low, 10**high)
        ticks = [float(np.log10(value)) for value in values if low <= np.log10(value) <= high]
        if len(ticks) >= 3:
            break
    axis.set_ticks(ticks[:: -(-len(ticks) // _TICKS)] if ticks else [low, high])
    axis.set_major_formatter(lambda position, _: f"{10**position:.3g}")


def _handles(panel: Panel, *, values: bool) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Line2D([], [], marker="o", color=INK, lw=0.7, markersize=5, markeredgecolor="white", label="measured")
    ]
    if panel.surface is not None:
        handles.append(Patch(color="#21918c", label="fit" if panel.surface.fitted else "measured grid"))
    for i, baseline in enumerate(panel.baselines):
        label = baseline.name + (f", {baseline.value:.1f}{panel.scale.unit}" if values else "")
        face, edge = (baseline.colour, 0.15), _EDGES[i % len(_EDGES)]
        handles.append(Patch(facecolor=face, edgecolor=baseline.colour, lw=1.2, ls=edge, label=label))
    return handles
