"""The results of a finished run in Python, without torch or Ray: ``load_run("runs/quickstart")``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trainables.metrics import CLAIMED, ROBUST, Direction
from trainables.settings.space import Choices, Domain, Range

if TYPE_CHECKING:
    import pandas as pd

    from analysis.figures.style import Picture

FIGURES: Final = ("pareto", "surfaces")


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        name: The run's name.
        records: One row per setting and baseline, and a second one if it was confirmed (``confirmed``), with the
            columns of `analysis.frames.settings_frame`: number, kind, state, loss, defence; the parameters; each
            accuracy with NAME_low and NAME_high (fractions, 95 %); feasible, seeds, times, verdict; confirmed,
            on_front, probability.
        trials: One row per training, with the columns of `analysis.frames.to_frame`.
        objectives: The direction of each objective.
        domains: The searched parameters.
    """

    name: str
    records: pd.DataFrame
    trials: pd.DataFrame
    objectives: Mapping[str, Direction]
    domains: Mapping[str, Domain]

    def shown(self) -> pd.DataFrame:
        """One row per setting and baseline: the confirmed one, if there is one."""
        last: pd.DataFrame = self.records.drop_duplicates("number", keep="last").set_index("number")
        return last.loc[self.records["number"].unique()].reset_index()

    def front(self) -> pd.DataFrame:
        """The rows of ``shown`` that are on the front, sorted by the last objective, best first."""
        last, direction = list(self.objectives.items())[-1]
        shown = self.shown()
        best: pd.DataFrame = shown[shown["on_front"]]
        return best.sort_values(last, ascending=direction == "minimize").reset_index(drop=True)

    def surface(self, measure: str) -> pd.DataFrame:
        """A measure over two parameters: the exact grid if there is one, else a Gaussian-process fit.

        Returns:
            One row per point: the two parameters, mean, low and high (mean -/+ 2 standard deviations of the fit;
            missing without a fit), in percent of images for accuracies.

        Raises:
            ValueError: There is no such measure, or no surface.
        """
        import numpy as np
        import pandas as pd

        from analysis.gaussian_process import values_at

        panel = next((panel for panel in self._panels() if panel.measure == measure), None)
        if panel is None:
            known = ", ".join(panel.measure for panel in self._panels())
            raise ValueError(f"measure must be one of {known}, got {measure}; choose one of these")
        surface = panel.surface
        if surface is None:
            raise ValueError(
                f"a surface must have settings spread over {' and '.join(panel.axes)}, got too few; add some"
            )
        (first, x_domain), (second, y_domain) = panel.axes.items()
        x, y = np.meshgrid(values_at(surface.x, x_domain), values_at(surface.y, y_domain))
        low, high = panel.band() or (np.full_like(surface.mean, np.nan),) * 2
        columns = {first: x, second: y, "mean": surface.mean, "low": low, "high": high}
        return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()})

    def figure(self, name: str) -> Picture:
        """A figure for Jupyter: ``pareto`` or ``surfaces``. Its attribute ``interactive`` is the same figure in plotly.

        Raises:
            ValueError: There is no such figure, or nothing to draw.
        """
        from analysis.figures.pareto import Chosen, pareto_picture
        from analysis.figures.surfaces import surfaces_picture

        if name == "pareto":
            confirmed = self.records.loc[self.records["confirmed"], "number"]
            searched = self.records[~self.records["confirmed"] & self.records["number"].isin(confirmed)]
            chosen = Chosen(set(self.front()["number"]), searched) if len(confirmed) else None
            return pareto_picture(self.shown(), self.objectives, self.domains, title=self.name, chosen=chosen)
        if name == "surfaces":
            return surfaces_picture(self._claims(), self.objectives, self.domains, title=self.name)
        raise ValueError(f"figure must be one of {', '.join(FIGURES)}, got {name}; choose one of these")

    def _claims(self) -> pd.DataFrame:
        """The search's rows with their claimed accuracies: a surface needs many settings, and few are audited."""
        searched: pd.DataFrame = self.records[~self.records["confirmed"]]
        if CLAIMED not in searched:
            return searched
        return searched.assign(**{ROBUST: searched[CLAIMED].fillna(searched[ROBUST])}).drop(columns=CLAIMED)

    def _panels(self) -> list[Any]:
        from analysis.figures.surfaces import plan_panels

        planned = plan_panels(self._claims(), self.objectives, self.domains)
        if isinstance(planned, str):
            raise ValueError(planned)
        return planned[0]

    def _repr_html_(self) -> str:
        return str(self.records._repr_html_())  # type: ignore[operator]


def load_run(folder: str | Path) -> Results:
    """Reads the results of a sweep, or of an imported run, from its folder.

    Raises:
        ValueError: The folder is not a run's folder, or has no results yet.
    """
    import pandas as pd
    from ruamel.yaml import YAML

    from analysis.frames import read_frame

    path = Path(folder)
    configs = [path / name for name in ("sweep.yaml", "import.yaml") if (path / name).is_file()]
    if not configs:
        raise ValueError(f"folder must be a run's folder with a sweep.yaml, got {path}; try runs/quickstart")
    if not (path / "settings.parquet").is_file():
        raise ValueError(f"folder must have results, got none in {path}; write them with `robustfront resume {path}`")
    config = YAML(typ="safe").load(configs[0])
    return Results(
        name=config["name"],
        records=pd.read_parquet(path / "settings.parquet"),
        trials=read_frame(path),
        objectives=config["objectives"],
        domains={name.removeprefix("loss."): _domain(domain) for name, domain in config["space"].items()},
    )


def _domain(document: Mapping[str, Any]) -> Domain:
    if "choices" in document:
        return Choices(choices=tuple(document["choices"]))
    return Range(**document)
