"""The results and claims of searches in worlds with known truth and noise (``worlds``).

    uv run --group benchmarks python -m tests.benchmarks.search_quality [--units 48] [--replays 10]
        [--worlds zdt1,...] [--searches nehvi,...] [--json FILE]

All searches have the same budget of units, each a setting trained with one seed; ``x3`` means three seeds per setting.
Optuna's and BoTorch's searches draw new seeds for each setting, like a training without a fixed seed; ``common`` trains
every setting with the same seed. Ours run through the real ledger, train the setting of the loss's authors (a corner)
first, and share their seeds between settings. Each search recommends settings by its own rule:

- Optuna's and random search: the front of the measured means.
- BoTorch's (qLogNEHVI on two Gaussian processes with inferred noise): the front of their posterior means.
- Ours: the front of the noise model's posterior means. ``rf-tpe`` is our ``tpe`` with one seed per setting.

``share`` is the hypervolume of the true objectives of the recommended settings, in percent of the whole front's, after
half of the units and after all. ``overclaim`` is the claim minus the truth for the robust accuracy of the most robust
recommended setting, in points. Replays are paired: a replay has the same seed effects for all searches. Intervals are
Student's, at 95 %; those of ``nehvi - other`` are for paired differences.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
from tests.benchmarks.worlds import OBJECTIVES, WORLDS, Draw, World
from tests.search.examples import unit_result
from trainables.settings.space import Range

Array = npt.NDArray[np.float64]

_NAMES: Final = ("x1", "x2")
_SPACE: Final = {name: Range(low=0.0, high=1.0) for name in _NAMES}
_COMMON_SEED: Final = 0
_INITIAL_POINTS: Final = 6  # Sobol' points of BoTorch's search: 2 (d + 1) for d parameters, as in ours


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


# A search runs for a number of units with a seed of its own. A rule recommends settings from the first units of it.
Search = Callable[[Draw, int, int], list[Measured]]
Rule = Callable[[Sequence[Measured]], Recommended]


@dataclass(frozen=True)
class Score:
    """One replay of one search; see the module. ``seconds`` are the search's own, per unit."""

    world: str
    search: str
    replay: int
    half: float
    share: float
    overclaim: float
    settings: int
    seconds: float


def with_optuna(
    make: Callable[[int, int], optuna.samplers.BaseSampler], replicates: int = 1, *, common: bool = False
) -> Search:
    """A search by an Optuna sampler, made from a seed and the number of settings."""

    def run(draw: Draw, units: int, seed: int) -> list[Measured]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(directions=["maximize"] * 2, sampler=make(seed, units // replicates))
        measured: list[Measured] = []
        while len(measured) + replicates <= units:
            trial = study.ask()
            setting = np.array([trial.suggest_float(name, 0.0, 1.0) for name in _NAMES])
            first = _COMMON_SEED if common else 1 + len(measured)
            measured += [Measured(setting, s, draw.measure(setting, s)) for s in range(first, first + replicates)]
            study.tell(trial, np.mean([unit.value for unit in measured[-replicates:]], axis=0).tolist())
        return measured

    return run


def with_robustfront(sampler: str) -> Search:
    """A search by one of our samplers, through the ledger."""

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
    """A search by BoTorch's qLogNEHVI, after some Sobol' points."""

    def run(draw: Draw, units: int, seed: int) -> list[Measured]:
        import torch
        from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
        from botorch.optim import optimize_acqf
        from botorch.utils.multi_objective.hypervolume import infer_reference_point
        from botorch.utils.sampling import draw_sobol_samples

        torch.manual_seed(seed)
        bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.double)
        beginning = draw_sobol_samples(bounds, _INITIAL_POINTS, 1, seed=seed).squeeze(1).numpy()
        measured: list[Measured] = []
        while len(measured) + replicates <= units:
            if len(measured) < _INITIAL_POINTS * replicates:
                setting = beginning[len(measured) // replicates]
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
            first = 1 + len(measured)
            measured += [Measured(setting, s, draw.measure(setting, s)) for s in range(first, first + replicates)]
        return measured

    return run


def _botorch_model(measured: Sequence[Measured], replicates: int) -> tuple[Any, Any, Any]:
    """Settings, standardised means over their seeds, and the model of these."""
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
    """The settings with all their seeds, and their means."""
    count = len(measured) // replicates
    settings = np.array([measured[replicates * at].setting for at in range(count)])
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


SEARCHES: Final[Mapping[str, tuple[Search, Rule]]] = {
    "nehvi": (with_robustfront("nehvi"), front_of_noise_model),
    "rf-tpe": (with_robustfront("tpe"), front_of_noise_model),
    "random": (with_optuna(lambda seed, _: optuna.samplers.RandomSampler(seed=seed)), front_of_means(1)),
    "tpe": (with_optuna(_tpe), front_of_means(1)),
    "tpe-common": (with_optuna(_tpe, common=True), front_of_means(1)),
    "tpe-x3": (with_optuna(_tpe, 3), front_of_means(3)),
    "nsga2": (with_optuna(_nsga2), front_of_means(1)),
    "nsga2-x3": (with_optuna(_nsga2, 3), front_of_means(3)),
    "gp": (with_optuna(_gp), front_of_means(1)),
    "gp-x3": (with_optuna(_gp, 3), front_of_means(3)),
    "botorch": (with_botorch(1), front_of_botorch(1)),
    "botorch-x3": (with_botorch(3), front_of_botorch(3)),
}


def replayed(world: str, search: str, replay: int, units: int) -> Score:
    """One replay of one search."""
    run, rule = SEARCHES[search]
    began = time.process_time()
    measured = run(Draw(WORLDS[world], replay), units, replay)
    seconds = (time.process_time() - began) / units
    truth: World = WORLDS[world]
    half, whole = rule(measured[: units // 2]), rule(measured)
    best = int(np.argmax(whole.claims[:, 1]))
    return Score(
        world=world,
        search=search,
        replay=replay,
        half=100 * truth.share(half.settings),
        share=100 * truth.share(whole.settings),
        overclaim=100 * float(whole.claims[best, 1] - truth.function(whole.settings[best])[1]),
        settings=len({tuple(unit.setting.tolist()) for unit in measured}),
        seconds=seconds,
    )


def table(scores: Sequence[Score]) -> str:
    """One line for each world and search, with intervals over the replays that the search shares with ``nehvi``."""
    lines = [
        "world          search        n   half  share   nehvi - other (95 %)     overclaim (95 %)   settings  s/unit"
    ]
    for world, search in dict.fromkeys((score.world, score.search) for score in scores):
        own = {score.replay: score for score in scores if (score.world, score.search) == (world, search)}
        ours = {score.replay: score for score in scores if (score.world, score.search) == (world, "nehvi")}
        gains = [ours[replay].share - score.share for replay, score in own.items() if replay in ours]
        lines.append(
            f"{world:<15}{search:<11}{len(own):>4}"
            f"{np.mean([s.half for s in own.values()]):>7.1f}{np.mean([s.share for s in own.values()]):>7.1f}"
            f"{_cell(gains) if search != 'nehvi' else '':>23}{_cell([s.overclaim for s in own.values()]):>23}"
            f"{np.mean([s.settings for s in own.values()]):>9.1f}{np.mean([s.seconds for s in own.values()]):>8.2f}"
        )
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    low, high = student_interval(values)
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Replays every search in every world, prints the table as it grows, and continues a file that exists."""
    parser = argparse.ArgumentParser(description="What searches find and claim, where truth and noise are known.")
    parser.add_argument("--units", type=int, default=48)
    parser.add_argument("--replays", type=int, default=10)
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--searches", default=",".join(SEARCHES))
    parser.add_argument("--json", type=Path, help="keep the scores in this file, and continue from it")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file: Path | None = arguments.json
    scores = [Score(**each) for each in json.loads(file.read_text(encoding="utf-8"))] if file and file.exists() else []
    known = {(score.world, score.search, score.replay) for score in scores}
    print({**environment(), "optuna": version("optuna"), "botorch": version("botorch"), "units": arguments.units})
    for replay in range(arguments.replays):
        for world in arguments.worlds.split(","):
            for search in arguments.searches.split(","):
                if (world, search, replay) not in known:
                    scores.append(replayed(world, search, replay, arguments.units))
                    if file:
                        file.write_text(json.dumps([asdict(score) for score in scores]), encoding="utf-8")
    scores.sort(key=lambda score: (list(WORLDS).index(score.world), list(SEARCHES).index(score.search)))
    print(table(scores))


if __name__ == "__main__":
    main()
