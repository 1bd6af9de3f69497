"""Multi-objective test problems whose settings are trained: each objective has a learning curve and noise.

The variables, in [0, 1], take the place of the loss's parameters: configuration, ledger and samplers are the real
ones. The problems have as many variables as objectives, so that a search of about a hundred trials can solve them.

The learning curve of objective i at setting x, epoch e of E:

    y_i(x, e) = f_i(x) + (u_i - f_i(x)) r(x, e) + noise,    r(x, e) = ((1 + e)^-a - (1 + E)^-a) / (1 - (1 + E)^-a)

A power law from the untrained value u_i (no setting has a worse one) at e = 0 to the problem's own f_i at e = E. Its
exponent a(x) = c^(sin(2 pi (w . x + phase)) / 2) lies between c^-1/2 and c^1/2 for the speed ratio c; w, uniform in
[0, 1]^n, and the phase are drawn for each seed. With c = 1 curves cross only through noise; with c > 1 also where a
slow setting is better than a quick one. The noise is normal, stronger at the rungs, where few images are attacked, than
at the end (``NOISE``). Fronts span about 1 in each objective.

Zitzler, Deb, Thiele 2000: Comparison of multiobjective evolutionary algorithms: empirical results. Evol. Comput. 8.
Deb, Thiele, Laumanns, Zitzler 2002: Scalable multi-objective optimization test problems. CEC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from search.config import SweepConfig, parse
from search.study import Unit
from tests.benchmarks.simulator import Curve
from trainables.losses import Baseline, Loss
from trainables.metrics import Direction
from trainables.settings.space import Range, searched

NOISE: Final = 0.02
# A tenth beyond the nadir of the fronts, which span [0, 1] in each objective.
REFERENCE: Final = 1.1
# Relative spread of the epochs' virtual seconds between trials, so that trials do not run in lockstep.
PACE: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class TwoVariables(Loss):
    """A loss whose parameters are a problem's variables; it is never trained.

    The reference setting is at a corner, like the paper's. There are no baselines: they would cost both sides the same
    and never be on the front.
    """

    x1: float = searched(1.0, Range(low=0.0, high=1.0))
    x2: float = searched(1.0, Range(low=0.0, high=1.0))

    baselines: ClassVar[tuple[Baseline, ...]] = ()


@dataclass(frozen=True, kw_only=True)
class ThreeVariables(TwoVariables):
    """The same with a third variable."""

    x3: float = searched(1.0, Range(low=0.0, high=1.0))


@dataclass(frozen=True)
class Problem:
    """Objectives to be minimised over the unit cube.

    Args:
        objectives: How many; there are as many variables.
        untrained: The worst value of each objective. Shape (objectives,).
        volume: Hypervolume of the whole front: the most that a search can find.
        function: Maps variables, shape (variables,), to objectives, shape (objectives,).
    """

    objectives: int
    untrained: tuple[float, ...]
    volume: float
    function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(f"x{index + 1}" for index in range(self.objectives))

    @property
    def directions(self) -> dict[str, Direction]:
        return {f"f{index + 1}": "minimize" for index in range(self.objectives)}

    @property
    def reference(self) -> dict[str, float]:
        return dict.fromkeys(self.directions, REFERENCE)

    def values(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """The objectives of a fully trained setting, without noise."""
        values = self.function(np.array([parameters[name] for name in self.variables]))
        return dict(zip(self.directions, values.tolist(), strict=True))


def _zdt(x: npt.NDArray[np.float64], shape: Callable[[float, float], float]) -> npt.NDArray[np.float64]:
    """Zitzler et al. 2000, Eq. 6 to 9: f2 = g h(f1, g)."""
    g = 1 + 9 * x[1:].mean()
    return np.array([x[0], g * shape(x[0], g)])


def _dtlz2(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Deb et al. 2002, Eq. 9, with one distance variable; the front is a part of the unit sphere."""
    angles, g = x[:-1] * np.pi / 2, (x[-1] - 0.5) ** 2
    cosines = np.cumprod(np.concatenate([[1.0], np.cos(angles)]))[::-1]
    sines = np.concatenate([[1.0], np.sin(angles[::-1])])
    return np.asarray((1 + g) * cosines * sines)


# The volumes are the reference's box minus the part below the front: 1 - sqrt(x), 1 - x^2, a part of the unit
# disc and of the unit ball; that of ZDT3, whose front has gaps, is integrated numerically.
PROBLEMS: Final[Mapping[str, Problem]] = {
    "zdt1": Problem(2, (1.0, 10.0), REFERENCE**2 - 1 / 3, lambda x: _zdt(x, lambda f1, g: 1 - np.sqrt(f1 / g))),
    "zdt2": Problem(2, (1.0, 10.0), REFERENCE**2 - 2 / 3, lambda x: _zdt(x, lambda f1, g: 1 - (f1 / g) ** 2)),
    "zdt3": Problem(
        2, (1.0, 10.0), 1.33176, lambda x: _zdt(x, lambda f1, g: 1 - np.sqrt(f1 / g) - f1 / g * np.sin(10 * np.pi * f1))
    ),
    "dtlz2": Problem(2, (1.25, 1.25), REFERENCE**2 - math.pi / 4, _dtlz2),
    "dtlz2-3": Problem(3, (1.25, 1.25, 1.25), REFERENCE**3 - math.pi / 6, _dtlz2),
}


class Training:
    """A problem's learning curves, as a surrogate.

    Args:
        problem: What the settings reach.
        epochs: Epochs of a full training.
        seed: Seed of the curves' exponents and of the noise. A trial's noise depends on its number, not on its setting.
        speed_ratio: Exponent of the quickest setting's curve over that of the slowest, at least 1.
        rung_noise: Standard deviation of the estimates at the rungs.
    """

    def __init__(self, problem: Problem, epochs: int, seed: int, speed_ratio: float, rung_noise: float) -> None:
        self._problem, self._epochs, self._seed = problem, epochs, seed
        self._speed_ratio, self._rung_noise = speed_ratio, rung_noise
        draws = np.random.default_rng(seed)
        self._weights, self._phase = draws.random(problem.objectives), draws.random()

    def curve(self, unit: Unit) -> Curve:
        parameters, epochs = unit.candidate.parameters, self._epochs
        final = np.array(list(self._problem.values(parameters).values()))
        position = self._weights @ [parameters[name] for name in self._problem.variables] + self._phase
        exponent = self._speed_ratio ** (np.sin(2 * np.pi * position) / 2)
        left = (1.0 + np.arange(1, epochs + 1)) ** -exponent
        end = (1.0 + epochs) ** -exponent
        remaining = (left - end) / (1 - end)
        draws = np.random.default_rng([self._seed, int(unit.number)])
        noise = draws.normal(size=(epochs, len(final))) * self._rung_noise
        estimates = final + (np.array(self._problem.untrained) - final) * remaining[:, None] + noise
        names = list(self._problem.directions)
        return Curve(
            seconds=[float(draws.uniform(1 - PACE, 1 + PACE))] * epochs,
            estimates=[dict(zip(names, row, strict=True)) for row in estimates.tolist()],
            objectives=dict(zip(names, (final + draws.normal(size=len(final)) * NOISE).tolist(), strict=True)),
        )


def search_config(
    problem: Problem, *, sampler: str, seed: int, trials: int, concurrency: int, halving: bool = False
) -> SweepConfig:
    """A sweep's configuration over a problem's variables.

    Args:
        problem: What is searched.
        sampler: Its name in ``search.sampler``.
        seed: Seed of the search.
        trials: Trials to finish, including stopped ones.
        concurrency: Trials at a time.
        halving: Whether halving will stop trials; samplers must know.
    """
    loss = {2: TwoVariables, 3: ThreeVariables}[problem.objectives]
    search = {"sampler": sampler, "seed": seed, "trials": trials, "concurrency": concurrency}
    config = parse(
        {
            "name": "benchmark",
            "loss": f"{loss.__module__}:{loss.__qualname__}",
            "search": search | ({"halving": {}} if halving else {}),
        }
    )
    return config.model_copy(update={"objectives": problem.directions})
