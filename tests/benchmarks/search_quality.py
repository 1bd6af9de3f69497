"""Compares the results and the claims of searches in worlds with known truth and noise (``worlds``).

    uv run --group benchmarks python -m tests.benchmarks.search_quality [--units 48] [--replays 30]
        [--worlds zdt1,...] [--searches nehvi,...] [--csv FILE]

All searches have the same budget of units. A unit is a setting trained with one seed; ``x3`` means three seeds per
setting. Searches of other libraries use new seeds for each setting, like a training without a fixed seed; ``common``
trains every setting with the same seed. Ours run through the real ledger, first train the setting of the loss's authors
(a corner), and use the same seeds for all settings. Each search recommends settings by its own rule:

- Optuna's, Syne Tune's and random search: the front of the measured means.
- BoTorch's (qLogNEHVI on two Gaussian processes with inferred noise): the front of their posterior means.
- Ours: the front of the noise model's posterior means. ``rf-tpe`` is our ``tpe`` with one seed per setting.

Syne Tune's search is its expected hypervolume improvement, the only multi-objective method among its ``baselines``
besides random search. Its reference point is fixed at 2 and it assumes no noise. The objectives are rescaled so that
the world's reference is at 2.

``share`` is the hypervolume of the true objectives of the recommended settings, in percent of the whole front's, after
half of the units and after all units. ``overclaim`` is the claim minus the truth for the robust accuracy of the most
robust recommended setting, in points. ``confirmed`` is the same for the mean of five new seeds, beyond the budget; this
is what ``search.confirmation_seeds`` reports. Replays are paired: a replay has the same seed effects for all searches.
Intervals are Student's, at 95 %; those of differences are for paired ones. Replays that FILE already has are not run
again.

``reach`` is the number of units (in eighths of the budget) at which the mean share is that of ``tpe`` at its end.
``time`` is the time until then as a share of the time of plain Ray Tune with OptunaSearch. Times are on a virtual
clock: the seconds of start-up and per unit that ``sweep_vs_naive`` measured for both, and those of the search itself.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import optuna
from optuna.storages import InMemoryStorage

from analysis.noise import Observation, fit
from analysis.pareto import is_nondominated
from analysis.statistics import student_interval
from search.config import SweepConfig, parse
from search.study import Ledger
from search.study.samplers.nsga2 import population_size
from tests.benchmarks.problems import TwoVariables
from tests.benchmarks.sweep_vs_naive import environment
from tests.benchmarks.worlds import NAMES, OBJECTIVES, Draw, append, read, world_of
from tests.search.examples import unit_result
from trainables.settings.space import Range

Array = npt.NDArray[np.float64]

_NAMES: Final = ("x1", "x2")
_SPACE: Final = {name: Range(low=0.0, high=1.0) for name in _NAMES}
_COMMON_SEED: Final = 0
_LIBRARIES: Final = ("botorch", "syne-tune", "numpy", "scipy")
_INITIAL_POINTS: Final = 6  # Sobol' points of BoTorch's search: 2 (d + 1) for d parameters, as in ours
_INITIAL_RANDOM_POINTS: Final = 3  # Syne Tune's default
_STEPS: Final = 8  # stages of a search at which its recommendation is scored
_CONFIRMATION_SEEDS: Final = -1 - np.arange(5)  # no search uses these


@dataclass(frozen=True)
class Clock:
    """Seconds before the first unit and per unit, with two units at a time; from the README's ``sweep_vs_naive``."""

    start: float
    unit: float


OURS, RAY_TUNE = Clock(12.0, 3600 / 888), Clock(21.1, 3600 / 273)


@dataclass(frozen=True)
class Measured:
    """A unit: a setting, shape (2,), its seed and its measured objectives, shape (2,)."""

    setting: Array
    seed: int
    value: Array


@dataclass(frozen=True)
class Recommended:
    """Settings, shape (n, 2), and the objectives that the search claims for them, shape (n, 2)."""

    settings: Array
    claims: Array


# A search runs for a number of units with its own seed. A rule recommends settings from the search's first units.
Search = Callable[[Draw, int, int], list[Measured]]
Rule = Callable[[Sequence[Measured]], Recommended]


@dataclass(frozen=True)
class Score:
    """One replay of one search, as described in the module. ``seconds`` is the search's own time per unit."""

    world: str
    search: str
    units: int
    replay: int
    shares: Sequence[float]  # after each eighth of the units
    overclaim: float
    confirmed: float
    settings: int
    seconds: float

    @property
    def half(self) -> float:
        return self.shares[_STEPS // 2 - 1]

    @property
    def share(self) -> float:
        return self.shares[-1]

    def to_row(self) -> dict[str, str]:
        """A row of a table."""
        return {
            **{name: str(getattr(self, name)) for name in ("world", "search", "units", "replay", "settings")},
            **{name: f"{getattr(self, name):.3f}" for name in ("overclaim", "confirmed", "seconds")},
            "shares": " ".join(f"{share:.2f}" for share in self.shares),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Score:
        """Reads what ``to_row`` wrote."""
        return cls(
            world=row["world"],
            search=row["search"],
            shares=[float(share) for share in row["shares"].split()],
            units=int(row["units"]),
            replay=int(row["replay"]),
            settings=int(row["settings"]),
            overclaim=float(row["overclaim"]),
            confirmed=float(row["confirmed"]),
            seconds=float(row["seconds"]),
        )


def with_optuna(
    make: Callable[[int, int], optuna.samplers.BaseSampler], replicates: int = 1, *, common: bool = False
) -> Search:
    """A search with an Optuna sampler, which is made from a seed and the number of settings."""

    def run(draw: Draw, units: int, seed: int) -> list[Measured]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(directions=["maximize"] * 2, sampler=make(seed, units // replicates))
        measured: list[Measured] = []
        while len(measured) + replicates <= units:
            trial = study.ask()
            setting = np.array([trial.suggest_float(name, 0.0, 1.0) for name in _NAMES])
            measured += _replicated(draw, setting, _COMMON_SEED if common else 1 + len(measured), replicates)
            study.tell(trial, np.mean([unit.value for unit in measured[-replicates:]], axis=0).tolist())
        return measured

    return run


def with_syne_tune(replicates: int) -> Search:
    """A search with Syne Tune's expected hypervolume improvement."""

    def run(draw: Draw, units: int, seed: int) -> list[Measured]:
        from syne_tune.config_space import uniform
        from syne_tune.optimizer.baselines import EHVI
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

        initial = np.random.default_rng(seed).random((_INITIAL_RANDOM_POINTS, 2))
        scheduler = AskTellScheduler(
            EHVI(
                {name: uniform(0.0, 1.0) for name in _NAMES},
                metrics=list(OBJECTIVES),
                do_minimize=False,
                random_seed=seed,
                points_to_evaluate=[dict(zip(_NAMES, point, strict=True)) for point in initial.tolist()],
            )
        )
        measured: list[Measured] = []
        while len(measured) + replicates <= units:
            with warnings.catch_warnings(), _double_precision():
                warnings.simplefilter("ignore")
                trial = scheduler.ask()
            setting = np.array([float(trial.config[name]) for name in _NAMES])
            measured += _replicated(draw, setting, 1 + len(measured), replicates)
            mean = np.mean([unit.value for unit in measured[-replicates:]], axis=0)
            scaled = 2 + (mean - draw.world.reference) / np.array(draw.world.interaction_sds)
            scheduler.tell(trial, dict(zip(OBJECTIVES, scaled.tolist(), strict=True)))
        return measured

    return run


@contextmanager
def _double_precision() -> Iterator[None]:
    """Sets torch's default to double. Otherwise Syne Tune 0.16 mixes two precisions, which BoTorch 0.18 refuses."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.double)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _replicated(draw: Draw, setting: Array, first: int, replicates: int) -> list[Measured]:
    """A setting measured with consecutive seeds."""
    return [Measured(setting, seed, draw.measure(setting, seed)) for seed in range(first, first + replicates)]


def with_robustfront(sampler: str) -> Search:
    """A search with one of our samplers, through the ledger."""

    def run(draw: Draw, units: int, seed: int) -> list[Measured]:
        ledger = Ledger(InMemoryStorage(), _config(sampler, units, seed), "new")
        ledger.adopt()
        measured: list[Measured] = []
        while (unit := ledger.ask()) is not None:
            setting = np.array([float(unit.candidate.parameters[name]) for name in _NAMES])
            value = draw.measure(setting, unit.seed)
            ledger.finish(unit.number, unit_result(dict(zip(OBJECTIVES, value.tolist(), strict=True)), seed=unit.seed))
            measured.append(Measured(setting, unit.seed, value))
        return measured

    return run


def _config(sampler: str, units: int, seed: int) -> SweepConfig:
    loss = f"{TwoVariables.__module__}:{TwoVariables.__qualname__}"
    return parse({"name": "quality", "loss": loss, "search": {"sampler": sampler, "seed": seed, "trials": units}})


def with_botorch(replicates: int) -> Search:
    """A search with BoTorch's qLogNEHVI, after initial Sobol' points."""

    def run(draw: Draw, units: int, seed: int) -> list[Measured]:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.optim import optimize_acqf
        from botorch.utils.multi_objective.hypervolume import infer_reference_point
        from botorch.utils.sampling import draw_sobol_samples

        torch.manual_seed(seed)
        bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
        initial = draw_sobol_samples(bounds, _INITIAL_POINTS, 1, seed=seed).squeeze(1).numpy()
        measured: list[Measured] = []
        while len(measured) + replicates <= units:
            if len(measured) < _INITIAL_POINTS * replicates:
                setting = initial[len(measured) // replicates]
            else:
                x, y, model = _botorch_model(measured, replicates)
                # The optimiser warns if it stops at rounding error, which is harmless here.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    acquisition = qLogNoisyExpectedHypervolumeImprovement(
                        model, infer_reference_point(y), X_baseline=x, prune_baseline=True
                    )
                    best, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=4, raw_samples=64)
                setting = best[0].detach().numpy()
            measured += _replicated(draw, setting, 1 + len(measured), replicates)
        return measured

    return run


def _botorch_model(measured: Sequence[Measured], replicates: int) -> tuple[Any, Any, Any]:
    """Settings, their standardised means over seeds, and the model of these means."""
    import torch
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from gpytorch.mlls import SumMarginalLogLikelihood

    settings, means = _means(measured, replicates)
    x = torch.tensor(settings)
    y = torch.tensor((means - means.mean(axis=0)) / means.std(axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ModelListGP(*(SingleTaskGP(x, y[:, [at]], outcome_transform=None) for at in range(2)))
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    return x, y, model


def _means(measured: Sequence[Measured], replicates: int) -> tuple[Array, Array]:
    """The settings for which all seeds are measured, and their means."""
    count = len(measured) // replicates
    settings = np.array([measured[replicates * at].setting for at in range(count)]).reshape(count, 2)
    values = np.array([unit.value for unit in measured[: count * replicates]])
    return settings, values.reshape(count, replicates, 2).mean(axis=1)


def front_of_means(replicates: int) -> Rule:
    """The front of the measured means."""

    def rule(measured: Sequence[Measured]) -> Recommended:
        return _front(*_means(measured, replicates))

    return rule


def front_of_botorch(replicates: int) -> Rule:
    """The front of the posterior means of BoTorch's model."""

    def rule(measured: Sequence[Measured]) -> Recommended:
        settings, means = _means(measured, replicates)
        if len(settings) < _INITIAL_POINTS:
            return _front(settings, means)
        x, _, model = _botorch_model(measured, replicates)
        posterior = model.posterior(x).mean.detach().numpy()
        return _front(settings, means.mean(axis=0) + means.std(axis=0) * posterior)

    return rule


def front_of_noise_model(measured: Sequence[Measured]) -> Recommended:
    """The front of the posterior means of `analysis.noise`, as in ``robustfront pareto``."""
    points = [dict(zip(_NAMES, unit.setting.tolist(), strict=True)) for unit in measured]
    models = [
        fit(
            [
                Observation(setting=p, seed=unit.seed, value=float(unit.value[at]))
                for p, unit in zip(points, measured, strict=True)
            ],
            _SPACE,
        )
        for at in range(2)
    ]
    settings = models[0].settings
    claims = np.stack([model.posterior(settings).mean for model in models], axis=1)
    return _front(np.array([[setting[name] for name in _NAMES] for setting in settings], dtype=np.float64), claims)


def _front(settings: Array, claims: Array) -> Recommended:
    front = is_nondominated(claims, list(OBJECTIVES.values()))
    return Recommended(settings[front], claims[front])


def _nsga2(seed: int, settings: int) -> optuna.samplers.BaseSampler:
    size = population_size(_config("nsga2", settings, 0))
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=size)


def _tpe(seed: int, _: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed)


def _gp(seed: int, _: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.GPSampler(seed=seed)


def _random(seed: int, _: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


SEARCHES: Final[Mapping[str, tuple[Search, Rule]]] = {
    "nehvi": (with_robustfront("nehvi"), front_of_noise_model),
    "rf-tpe": (with_robustfront("tpe"), front_of_noise_model),
    "random": (with_optuna(_random), front_of_means(1)),
    "random-x3": (with_optuna(_random, 3), front_of_means(3)),
    "tpe": (with_optuna(_tpe), front_of_means(1)),
    "tpe-common": (with_optuna(_tpe, common=True), front_of_means(1)),
    "tpe-x3": (with_optuna(_tpe, 3), front_of_means(3)),
    "nsga2": (with_optuna(_nsga2), front_of_means(1)),
    "nsga2-x3": (with_optuna(_nsga2, 3), front_of_means(3)),
    "gp": (with_optuna(_gp), front_of_means(1)),
    "gp-x3": (with_optuna(_gp, 3), front_of_means(3)),
    "botorch": (with_botorch(1), front_of_botorch(1)),
    "botorch-x3": (with_botorch(3), front_of_botorch(3)),
    "syne-tune": (with_syne_tune(1), front_of_means(1)),
    "syne-tune-x3": (with_syne_tune(3), front_of_means(3)),
}


def replayed(world: str, search: str, replay: int, units: int) -> Score:
    """One replay of one search."""
    run, rule = SEARCHES[search]
    truth = world_of(world)
    draw = Draw(truth, replay)
    began = time.process_time()
    measured = run(draw, units, replay)
    seconds = (time.process_time() - began) / units
    recommended = [rule(measured[: step * units // _STEPS]) for step in range(1, _STEPS + 1)]
    whole = recommended[-1]
    best = int(np.argmax(whole.claims[:, 1]))
    setting = whole.settings[best]
    true = truth.function(setting)[1]
    confirmed = np.mean([draw.measure(setting, seed)[1] for seed in _CONFIRMATION_SEEDS.tolist()])
    return Score(
        world=world,
        search=search,
        units=units,
        replay=replay,
        shares=[100 * truth.share(each.settings) for each in recommended],
        overclaim=100 * float(whole.claims[best, 1] - true),
        confirmed=100 * float(confirmed - true),
        settings=len({tuple(unit.setting.tolist()) for unit in measured}),
        seconds=seconds,
    )


def table(scores: Sequence[Score]) -> str:
    """One line for each world and search, with intervals over the replays that it shares with ``nehvi``."""
    lines = [
        "world          search        n   half  share   nehvi - other (95 %)  half nehvi - other    overclaim (95 %)   "
        "confirmed (95 %)  reach  time  settings  s/unit"
    ]
    by_cell: dict[tuple[str, str], dict[int, Score]] = {}
    for score in scores:
        by_cell.setdefault((score.world, score.search), {})[score.replay] = score
    for (world, search), own in by_cell.items():
        ours, tpe = by_cell.get((world, "nehvi"), {}), by_cell.get((world, "tpe"), {})
        pairs = [(ours[replay], score) for replay, score in own.items() if replay in ours and search != "nehvi"]
        reach, share_of_time = reached(list(own.values()), list(tpe.values()))
        lines.append(
            f"{world:<15}{search:<13}{len(own):>3}"
            f"{np.mean([s.half for s in own.values()]):>7.1f}{np.mean([s.share for s in own.values()]):>7.1f}"
            f"{_cell([nehvi.share - score.share for nehvi, score in pairs]):>23}"
            f"{_cell([nehvi.half - score.share for nehvi, score in pairs]):>20}"
            f"{_cell([s.overclaim for s in own.values()]):>20}{_cell([s.confirmed for s in own.values()]):>19}"
            f"{reach:>7}{share_of_time:>6}"
            f"{np.mean([s.settings for s in own.values()]):>10.1f}{np.mean([s.seconds for s in own.values()]):>8.2f}"
        )
    return "\n".join(lines)


def reached(own: Sequence[Score], tpe: Sequence[Score]) -> tuple[str, str]:
    """The units at which the mean share is that of ``tpe`` at its end, and the time as a share of plain Ray Tune's."""
    goal = np.mean([score.share for score in tpe]) if tpe else math.nan
    if math.isnan(goal):  # nothing to find
        return "", ""
    shares = np.mean([score.shares for score in own], axis=0)
    enough = np.flatnonzero(shares >= goal)
    if not len(enough):
        return "never", ""
    units = own[0].units
    count = (int(enough[0]) + 1) * units // _STEPS
    seconds, theirs = (float(np.mean([score.seconds for score in side])) for side in (own, tpe))
    ratio = (OURS.start + count * (OURS.unit + seconds)) / (RAY_TUNE.start + units * (RAY_TUNE.unit + theirs))
    return str(count), f"{ratio:.2f}"


def _cell(values: Sequence[float]) -> str:
    if len(values) < 2 or np.isnan(values).any():
        return ""
    low, high = student_interval(values)
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Replays every search in every world, continuing an existing file, and prints the table."""
    parser = argparse.ArgumentParser(description="What searches find and claim when truth and noise are known.")
    parser.add_argument("--units", type=int, default=48)
    parser.add_argument("--replays", type=int, default=30)
    parser.add_argument("--worlds", default=",".join(NAMES))
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--csv", type=Path, help="save the scores to this file, and continue from it")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file: Path | None = arguments.csv
    worlds, searches = arguments.worlds.split(","), arguments.searches.split(",")
    print({**environment(), **{name: version(name) for name in _LIBRARIES}, "units": arguments.units})
    scores = {}
    for score in map(Score.from_row, read(file) if file else []):
        if score.units == arguments.units:
            scores[score.world, score.search, score.replay] = score
    for replay, world, search in itertools.product(range(arguments.replays), worlds, searches):
        if (world, search, replay) not in scores:
            scores[world, search, replay] = replayed(world, search, replay, arguments.units)
            if file:
                append(file, scores[world, search, replay].to_row())
    kept = [s for s in scores.values() if s.world in worlds and s.search in searches]
    print(table(sorted(kept, key=lambda score: (worlds.index(score.world), searches.index(score.search)))))


if __name__ == "__main__":
    main()
