"""Reproduces the paper's figures and tables: runs their sweeps, then writes tables, text and figures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from rich.console import Console

from analysis import reproduction
from search.config import available_cpus
from search.config.experiments import Experiment, Library, Profile
from search.errors import UserError
from search.results.leaderboard import Contestant
from search.results.reproduction import MeasuredPanel, Measures, make_table
from search.runs.folder import Run, command, relative
from search.runs.layout import OUTCOMES_FILE
from search.study import read_records
from search.sweep.compare import Method, is_finished, run_all
from trainables import files

if TYPE_CHECKING:
    import pandas as pd

    from search.config import SweepConfig

SUMMARY: Final = "claims.md"
# Bounds of a unit's time, as factors of an extrapolation from its first epoch and from attacks on a few images: later
# epochs may be faster than the first, and attacks take longer on better networks and on several processors at once.
SHORTEST: Final = 0.6
LONGEST: Final = 1.8
_TIMED_IMAGES: Final = (20, 60)
_SECONDS_PER_SWEEP: Final = 20.0  # starting Ray, and drawing the figures
_FIGURES: Final = 6e6  # bytes of a sweep's figures and records, at least; three times as many for a grid
_CHECKPOINTS: Final = 2  # kept per unit
Measure = Callable[[Contestant, Sequence[str]], Measures]


@dataclass(frozen=True)
class Reproduction:
    """Experiments of a library in one profile. Their sweeps are called ``NAME-POOL-MEMBER``."""

    library: Library
    names: Sequence[str]
    profile: Profile
    name: str
    runs_dir: Path
    overrides: Sequence[str] = ()

    def sweeps(self) -> dict[tuple[str, str], Method]:
        """The sweeps that the experiments need, by pool and member."""
        return {
            (pool, member): Method(f"{pool}, {member}", self._config(pool, member))
            for pool, members in self.library.needed(self.names, self.profile).items()
            for member in members
        }

    def _config(self, pool: str, member: str) -> SweepConfig:
        return self.library.sweep(pool, member, self.profile, self.name, self.overrides)

    def in_place_of(self, panel: str, experiment: Experiment) -> str:
        """Replacements of the paper's data and network, e.g. ``mnist5k in place of mnist``; empty if there are none."""
        if self.profile == "paper":
            return ""
        declared = experiment.panels[panel]
        ours = self.library.sweep(declared.quick, declared.methods[0], "quick", self.name)
        paper = self.library.sweep(declared.paper, declared.methods[0], "paper", self.name)
        pairs = [
            (ours.data.dataset.title, paper.data.dataset.title),
            (ours.model.title, paper.model.title),
        ]
        return ", ".join(f"{used} in place of {original}" for used, original in pairs if used != original)


def reproduce(
    job: Reproduction, again: str, results: Path, address: str | None, console: Console, quiet: bool
) -> list[Path]:
    """Runs the unfinished sweeps, and writes each experiment's table, text and figures when its sweeps are done.

    ``again`` is the command that continues; the other arguments are as for ``compare``.
    """
    contestants: dict[tuple[str, str], Contestant] = {}
    written = []
    for name in job.names:
        own = replace(job, names=[name]).sweeps()
        sweeps = {key: method for key, method in own.items() if key not in contestants}
        finished = run_all(list(sweeps.values()), again, job.runs_dir, address, console, quiet)
        contestants |= zip(sweeps, finished, strict=True)
        experiment = job.library.experiments[name]
        panels = [_measured_panel(job, experiment, panel, contestants) for panel in experiment.panels]
        path = table_path(results, name, job.profile)
        written.append(files.write(path, make_table(name, experiment, job.profile, panels).to_csv(index=False)))
        if experiment.form == "embedding":
            written.append(files.write(points_path(path), _points(panels).to_csv(index=False)))
        written += write_report(name, experiment, path)
        written.append(write_summary(job.library, results))
    return [relative(path.absolute()) for path in dict.fromkeys(written)]


def rewrite(job: Reproduction, results: Path) -> list[Path]:
    """Writes text and figures again from the existing tables. Raises ``UserError`` if a single one is missing."""
    written = []
    for name in job.names:
        path = table_path(results, name, job.profile)
        if path.is_file():
            written += write_report(name, job.library.experiments[name], path)
        elif len(job.names) == 1:
            raise UserError(
                f"NAME must have a table for --from-table, got {name} without {relative(path.absolute())}; "
                f"create it with `{command('reproduce', name)}`"
            )
    if written:
        written.append(write_summary(job.library, results))
    return [relative(path.absolute()) for path in written]


def write_report(name: str, experiment: Experiment, path: Path) -> list[Path]:
    """Writes the text and the figures of an experiment from its table at ``path``."""
    import pandas as pd

    from analysis.figures.reproduction import draw

    table, document = read_table(path), experiment.model_dump(mode="json")
    points = pd.read_csv(points_path(path)) if points_path(path).is_file() else None
    figures = draw(name, document, table, points, files.sha256(path), path.with_suffix(""))
    text = reproduction.text(name, document, table, [figure.name for figure in figures])
    return [files.write(path.with_suffix(".md"), text), *figures]


def write_summary(library: Library, results: Path) -> Path:
    """Writes the page with the verdicts of all tables in a folder."""
    tables = []
    for name, experiment in library.experiments.items():
        for path in (table_path(results, name, profile) for profile in get_args(Profile)):
            if path.is_file():
                tables.append((path.stem, experiment.model_dump(mode="json"), read_table(path)))
    return files.write(results / SUMMARY, reproduction.summary(tables))


def read_table(path: Path) -> pd.DataFrame:
    """Reads a table written by ``reproduce``."""
    import pandas as pd

    text = dict.fromkeys(("setting", "attack", "by_seed", "claim", "against", "in_place_of"), str)
    return pd.read_csv(path, dtype=text).fillna(dict.fromkeys(text, ""))


def table_path(results: Path, name: str, profile: Profile) -> Path:
    """The path of an experiment's table."""
    return results / (f"{name}.csv" if profile == "quick" else f"{name}-{profile}.csv")


def points_path(table: Path) -> Path:
    """The path of the features of an embedding, next to its table."""
    return table.with_name(f"{table.stem}-points.csv")


def _measured_panel(
    job: Reproduction, experiment: Experiment, title: str, contestants: Mapping[tuple[str, str], Contestant]
) -> MeasuredPanel:
    panel = experiment.panels[title]
    pool_name = panel.pool(job.profile)
    pool = job.library.pools[pool_name]
    sweeps = {member: (pool.members[member].title, contestants[pool_name, member]) for member in panel.methods}
    return MeasuredPanel(
        title, panel, pool.values, job.in_place_of(title, experiment), sweeps, _measure(experiment.form)
    )


def _measure(form: str) -> Measure:
    from search.evaluation.representations import condition_measures, embedding_measures

    measures: dict[str, Measure] = {"condition": condition_measures, "embedding": embedding_measures}
    return measures.get(form, lambda _, __: {})


def _points(panels: Sequence[MeasuredPanel]) -> pd.DataFrame:
    """The features of the first network of each method."""
    import pandas as pd

    from search.evaluation.representations import embedded_points

    parts = []
    for panel in panels:
        for title, contestant in panel.sweeps.values():
            points = embedded_points(contestant, contestant.units[0].number)
            points.insert(0, "method", title)
            points.insert(0, "panel", panel.title)
            parts.append(points)
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Cost:
    """The remaining cost of a pool's sweeps: units, and ranges of seconds and bytes."""

    pool: str
    units: int
    seconds: tuple[float, float]
    size: tuple[float, float]


def left(job: Reproduction) -> dict[tuple[str, str], int]:
    """The number of units that each sweep still has to train, by pool and member."""
    return {key: _left(method.config, job.runs_dir) for key, method in job.sweeps().items()}


def _left(config: SweepConfig, runs_dir: Path) -> int:
    if Run.find(config.name, runs_dir) is None:
        return config.budget
    run = Run.open(config.name, runs_dir)
    if is_finished(run):
        return 0
    done = sum(unit.state in ("complete", "pruned") for unit in read_records(run))
    return max(config.budget - done, 0)


def estimate(job: Reproduction, console: Console) -> list[Cost]:
    """Times one unit of each unfinished sweep, with one epoch and few images, and extrapolates."""
    sweeps, unfinished = job.sweeps(), left(job)
    costs: dict[str, list[tuple[int, float, float, float]]] = {}
    for key, units in unfinished.items():
        costs.setdefault(key[0], [])
        if units:
            console.print(f"timing {sweeps[key].name}")
            seconds, size = _timed(sweeps[key].config)
            costs[key[0]].append((units, seconds, size, _FIGURES))
    return [_cost(pool, each) for pool, each in costs.items()]


def _cost(pool: str, sweeps: Sequence[tuple[int, float, float, float]]) -> Cost:
    units = sum(count for count, *_ in sweeps)
    # Each unit uses one processor, and units run in parallel.
    busy = sum(count * seconds for count, seconds, *_ in sweeps) / available_cpus()
    size = sum(count * each + figures for count, _, each, figures in sweeps)
    start = _SECONDS_PER_SWEEP * len(sweeps)
    return Cost(pool, units, (SHORTEST * busy + start / 2, LONGEST * busy + start), (size, 3 * size))


def _timed(config: SweepConfig) -> tuple[float, float]:
    """The seconds and bytes of one unit, on this machine with one thread.

    An attack has a fixed cost and a cost per image, so it is timed with two numbers of images.
    """
    import torch

    from trainables.trial import CandidateResult, run_candidate

    torch.set_num_threads(config.resources.cpus_per_trial)
    device = torch.device("cuda" if config.resources.gpus_per_trial > 0 and torch.cuda.is_available() else "cpu")
    problem, candidate = config.problem, config.candidate(config.fixed_settings[-1])
    problem = replace(problem, train=replace(problem.train, epochs=1))
    train, attacks = 0.0, []
    folder = Path(tempfile.mkdtemp(prefix="robustfront-"))
    try:
        for images in _TIMED_IMAGES:
            few = replace(problem, robustness=replace(problem.robustness, images=images))
            # The second time, the trained network is reused.
            for result in run_candidate(few, candidate, replicates=[0], device=device, checkpoints=folder):
                if isinstance(result, CandidateResult):
                    train = result.train_seconds[0]
                    attacks.append(result.attack_seconds)
                    result.outcomes.save(folder / OUTCOMES_FILE)
        size = sum(path.stat().st_size for path in folder.iterdir())
    finally:
        shutil.rmtree(folder)
    return train * config.train.epochs + at_images(attacks, config.robustness.images), size * _CHECKPOINTS


def at_images(seconds: Sequence[float], images: int) -> float:
    """The seconds for a number of images, extrapolated linearly from ``_TIMED_IMAGES``; never less than measured."""
    (few, many), (first, second) = _TIMED_IMAGES, seconds
    slope = max(second - first, 0.0) / (many - few)
    return max(second, second + slope * (images - many))
