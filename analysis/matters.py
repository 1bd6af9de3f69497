"""Whether the parameters matter for an objective: yes, no, or how many more units would decide.

Holm 1979: A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.gaussian_process import Array
from analysis.noise import THIS_NETWORK_ONLY, NoiseModel, Observation, Parameters, confirmed_difference
from analysis.statistics import Difference, Interval, holm
from trainables.metrics import is_accuracy

_DRAWS: Final = 2000
_POINTS: Final = 256  # of the space, among which the largest difference is looked for
_BOUND: Final = 0.975
_POWER: Final = 0.8
_MOST_SEEDS: Final = 10_000  # for one comparison; an effect that needs more is out of reach


@dataclass(frozen=True, kw_only=True)
class Matter:
    """Whether the parameters matter for one objective. Effects are in its unit.

    Args:
        matters: True if the confirmed difference of the settings with the highest and the lowest posterior mean
            excludes zero; False if the posterior's bound on the largest difference in the space is below the smallest
            effect; else None.
        effect: The 95 % interval of that confirmed difference. If ``matters`` is False or nothing is confirmed, that of
            the largest difference in the space.
        bound: The 97.5 % posterior quantile of the largest difference between two settings of the space.
        visible: If undecided: the effect that the confirmation's seeds detect with a probability of 80 %; None with
            fewer than two seeds.
        units: If undecided: about how many more units would decide; None with one seed, or if no number would.
        seen: If undecided: whether the search shows an effect of interest, and only its confirmation is missing.
        sentence: The answer in English, without an initial capital or a full stop.
    """

    matters: bool | None
    effect: Interval
    bound: float
    visible: float | None = None
    units: int | None = None
    seen: bool = False
    sentence: str


def parameters_matter(
    models: Mapping[str, NoiseModel],
    smallest_effect: Mapping[str, float],
    confirmation: Mapping[str, Sequence[Observation]],
    seed: int = 0,
) -> dict[str, Matter]:
    """For each objective, whether the parameters matter.

    If they affect no objective, at most 5 % of searches answer True for any (Holm 1979), because the two settings that
    are compared were chosen without the confirmation units.

    Args:
        models: The model of each objective, fitted to the search units.
        smallest_effect: The smallest difference that is of interest, in each objective's unit, above 0.
        confirmation: The confirmation units of each objective; there may be none.
        seed: The seed of the draws from the posteriors.
    """
    differences = {
        name: confirmed_difference(confirmation.get(name, ()), *extremes(model)) for name, model in models.items()
    }
    p_values = {name: confirmed[0].p for name, confirmed in differences.items() if confirmed is not None}
    rejected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return {
        name: _matter(name, model, smallest_effect[name], differences[name], rejected.get(name, False), seed)
        for name, model in models.items()
    }


def extremes(model: NoiseModel) -> tuple[Parameters, Parameters]:
    """The measured settings with the highest and the lowest posterior mean, which a confirmation must compare."""
    mean = model.posterior(model.settings).mean
    return model.settings[int(np.argmax(mean))], model.settings[int(np.argmin(mean))]


def largest_difference(model: NoiseModel, seed: int = 0) -> Array:
    """Draws of the largest difference between any two points of the space, in the objective's unit. Shape (draws,)."""
    f = model.posterior(model.points(_POINTS, seed))
    return np.asarray(np.ptp(f.draws(_DRAWS, np.random.default_rng(seed)), axis=1))


def label(objective: str) -> str:
    """An objective's name as text: ``robust accuracy``."""
    return objective.replace("_", " ")


def amount_text(objective: str, effect: float) -> str:
    """An effect as text: ``2 points`` for an accuracy, else a plain number."""
    if not is_accuracy(objective):
        return f"{effect:.3g}"
    points = f"{100 * effect:.2g}" if abs(effect) < 0.1 else f"{100 * effect:.0f}"
    return f"{points} point{'' if points == '1' else 's'}"


def range_text(objective: str, interval: Iterable[float]) -> str:
    """An interval as text: ``0.4 to 5.8``, in points for an accuracy."""
    return " to ".join(f"{100 * end:.1f}" if is_accuracy(objective) else f"{end:.3g}" for end in interval)


def _matter(
    name: str, model: NoiseModel, margin: float, confirmed: tuple[Difference, int] | None, rejected: bool, seed: int
) -> Matter:
    draws = largest_difference(model, seed)
    largest = Interval(*(float(np.quantile(draws, share)) for share in (1 - _BOUND, _BOUND)))
    effect = largest if confirmed is None else confirmed[0].interval
    amount, unit = amount_text(name, margin), " points" if is_accuracy(name) else ""
    if model.this_network_only:
        sentence = f"undecided: one seed shows {label(name)} of {THIS_NETWORK_ONLY}"
        return Matter(matters=None, effect=effect, bound=largest.high, sentence=sentence)
    if rejected and confirmed is not None:
        sentence = f"the choice changes {label(name)} by {range_text(name, effect)}{unit} ({confirmed[1]} new seeds)"
        return Matter(matters=True, effect=effect, bound=largest.high, sentence=sentence)
    if largest.high < margin:
        choice = f"no ({', '.join(model.space)})" if len(model.space) > 1 else f"no {next(iter(model.space))}"
        sentence = f"{choice} differs from another by {amount} or more in {label(name)}"
        return Matter(matters=False, effect=largest, bound=largest.high, sentence=sentence)
    if confirmed is None and largest.low >= margin:
        sentence = (
            f"undecided: in the search, the choice changes {label(name)} by {range_text(name, largest)}{unit}, but the "
            "best and the worst setting were not both confirmed (search.confirmation_seeds, search.most_confirmed)"
        )
        return Matter(matters=None, effect=effect, bound=largest.high, seen=True, sentence=sentence)
    visible, units = _reach(model, margin, largest.high, 0 if confirmed is None else confirmed[1])
    parts = [] if visible is None else [f"effects below {amount_text(name, visible)} in {label(name)} cannot be seen"]
    parts += [] if units is None else [f"about {units} more units would show effects of {amount}"]
    sentence = f"undecided: {'; '.join(parts)}" if parts else "undecided"
    return Matter(matters=None, effect=effect, bound=largest.high, visible=visible, units=units, sentence=sentence)


def _reach(model: NoiseModel, margin: float, bound: float, seeds: int) -> tuple[float | None, int | None]:
    """The effect that the confirmation can detect, and how many more units would decide on the smallest effect.

    New seeds of the two extreme settings show an effect. A bound that falls with the square root of the number of units
    shows that there is none. Which of the two will happen is unknown, so the larger number counts.
    """
    parts = (model.components.interaction, model.components.images_per_unit)
    sd = math.sqrt(2 * sum((part / 100) ** 2 for part in parts if part is not None))
    needed = next((n for n in _numbers_of_seeds() if _visible(sd, n) <= margin), None)
    absence = math.ceil(model.units * ((bound / margin) ** 2 - 1))
    units = None if needed is None else max(2 * (needed - seeds), absence, 1)
    return (_visible(sd, seeds) if seeds >= 2 else None), units


def _visible(sd: float, seeds: int) -> float:
    """The effect that a paired t test detects with a probability of 80 %, by the usual sum of two quantiles."""
    from scipy.stats import t

    return float(t.ppf(_BOUND, seeds - 1) + t.ppf(_POWER, seeds - 1)) * sd / math.sqrt(seeds)


def _numbers_of_seeds() -> Iterable[int]:
    seeds = 2
    while seeds <= _MOST_SEEDS:
        yield seeds
        seeds = max(seeds + 1, seeds * 21 // 20)
