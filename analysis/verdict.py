"""The answer of a search: the front, the recommendation, and how certain both are.

The search units make the choice, by the posterior of `analysis.noise`. The confirmation units, with seeds and images of
their own, only measure how good it is. The results hold for new training runs on this training set, not for other
training data.

Hsu 1984: Constrained simultaneous confidence intervals for multiple comparisons with the best. Annals of Statistics 12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis.gaussian_process import Array
from analysis.matters import Matter, amount_text, label, parameters_matter, range_text
from analysis.noise import (
    NoiseModel,
    Observation,
    Setting,
    confirmed_difference,
    confirmed_mean,
    setting_key,
    setting_text,
)
from analysis.pareto import is_nondominated
from analysis.selection import knee
from analysis.statistics import Interval
from trainables.metrics import CLEAN, ROBUST, Direction, is_accuracy

_DRAWS: Final = 2000
_COVERAGE: Final = 0.95
_CLEAN_LOSS: Final = 0.005  # how far the recommended setting may lie below the highest clean accuracy
_CHUNK: Final = 2**24  # comparisons in memory at a time

Objectives = Mapping[str, Direction]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A setting or baseline as measured by the search units. Values are in the objectives' units.

    Args:
        setting: Its parameters, or the baseline's name.
        means: The posterior mean of each objective.
        intervals: The 95 % interval of each objective, over unseen seeds and images.
        on_front: Whether no other entry's means dominate its own.
        probability: The probability that no other entry is at least as good in every objective, and better in one by
            the smallest effect.
        tied_with_best: For each objective, whether it cannot be distinguished from the best entry.
        beats: For each baseline, the probability of being better in each objective.
    """

    setting: Setting
    means: Mapping[str, float]
    intervals: Mapping[str, Interval]
    on_front: bool
    probability: float
    tied_with_best: Mapping[str, bool]
    beats: Mapping[str, Mapping[str, float]]

    @property
    def is_baseline(self) -> bool:
        """Whether it lies outside the space."""
        return isinstance(self.setting, str)


@dataclass(frozen=True, kw_only=True)
class Advantage:
    """The confirmed, paired difference between the recommendation and a baseline in one objective.

    In the objective's unit. Above 0 the recommendation is better, whatever the objective's direction.
    """

    baseline: str
    mean: float
    interval: Interval  # at 95 %
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a search.

    Args:
        entries: Settings, then baselines, each in the order of their first units.
        recommended: The most robust setting within half a point of the highest clean accuracy of a setting, by
            posterior means; without these two objectives, the best in the first one.
        certainty: The probability that no other measured setting is better than the recommended one, in the objective
            that it is recommended for, by the smallest effect or more.
        told_apart: Whether any setting can be distinguished from the best one in that objective.
        knee: The entry of the front that is farthest from the line through its ends, each objective scaled to its
            range on the front; None with fewer than three entries, or other than two objectives.
        best: The entry with the best posterior mean in each objective.
        matters: For each objective, whether the parameters matter.
        against: For each objective, the advantages over the confirmed baselines, the best of these first.
        this_network_only: Whether there is only one seed, so that the results say nothing about other seeds.
        sentence: The answer in English.
    """

    entries: tuple[Entry, ...]
    recommended: Entry
    certainty: float
    told_apart: bool
    knee: Entry | None
    best: Mapping[str, Entry]
    matters: Mapping[str, Matter]
    against: Mapping[str, tuple[Advantage, ...]]
    this_network_only: bool
    sentence: str

    @property
    def over_baseline(self) -> dict[str, Advantage]:
        """For each objective in which a baseline was confirmed, the advantage over the best one."""
        return {name: advantages[0] for name, advantages in self.against.items() if advantages}


def answer(
    models: Mapping[str, NoiseModel],
    objectives: Objectives,
    smallest_effect: Mapping[str, float],
    confirmation: Mapping[str, Sequence[Observation]] | None = None,
    seed: int = 0,
) -> Answer:
    """The answer of a search.

    Args:
        models: The model of each objective, fitted to the search units of the same settings.
        objectives: The direction of each objective, at least one.
        smallest_effect: The smallest difference that is of interest, in each objective's unit, above 0.
        confirmation: The confirmation units of each objective; None before there are any.
        seed: The seed of the draws from the posteriors.

    Raises:
        ValueError: The objectives were measured for different settings.
    """
    confirmed = {name: (confirmation or {}).get(name, ()) for name in objectives}
    margins = [smallest_effect[name] for name in objectives]
    settings = _common_settings(models, objectives)
    entries, gains = _entries(models, objectives, margins, settings, seed)
    inside = np.array([not entry.is_baseline for entry in entries])
    names = list(objectives)
    means = np.array([[entry.means[name] for name in names] for entry in entries]) * _signs(objectives)
    chosen, column = _recommended(means, inside, names)
    goal, recommended = names[column], entries[chosen]
    settings_gains = gains[:, inside, column]
    lead = settings_gains.max(axis=1) - gains[:, chosen, column]
    tied = tied_with_best(means[inside, column], settings_gains)
    matters = parameters_matter({name: models[name] for name in names}, smallest_effect, confirmed, seed)
    result = Answer(
        entries=entries,
        recommended=recommended,
        certainty=float(np.mean(lead < margins[column])),
        told_apart=not tied.all(),
        knee=_knee(entries, means),
        best={name: entries[int(np.argmax(means[:, at]))] for at, name in enumerate(names)},
        matters=matters,
        against=_against(recommended, entries, means, objectives, confirmed),
        this_network_only=any(models[name].this_network_only for name in names),
        sentence="",
    )
    return replace(result, sentence=_sentence(result, goal, confirmed[goal]))


def front_probability(draws: Array, smallest_effect: Sequence[float]) -> Array:
    """For each setting, the share of draws in which no other one beats it by an effect of interest.

    A setting beats another if it is at least as good in every objective, and better in one by at least the smallest
    effect.

    Args:
        draws: Joint draws of the objectives, larger is better. Shape (draws, settings, k).
        smallest_effect: For each objective, above 0. Length k.

    Returns:
        Shape (settings,), in [0, 1].
    """
    count, settings, _ = draws.shape
    margins = np.asarray(smallest_effect)
    unbeaten = np.zeros(settings)
    step = max(_CHUNK // (settings**2 * len(margins)), 1)
    for start in range(0, count, step):
        chunk = draws[start : start + step]
        ahead = chunk[:, None, :, :] - chunk[:, :, None, :]  # [draw, setting, other setting, objective]
        beaten = np.all(ahead >= 0, axis=3) & np.any(ahead >= margins, axis=3)
        unbeaten += np.sum(~np.any(beaten, axis=2), axis=0)
    return np.asarray(unbeaten / count, dtype=np.float64)


def tied_with_best(mean: Array, draws: Array) -> npt.NDArray[np.bool_]:
    """Which settings cannot be distinguished from the best: multiple comparisons with the best, at 95 %.

    A setting is distinguished from the best if another is better by more than a critical number of standard deviations
    of their difference. In 95 % of the draws, no comparison with this setting has an error above that number.

    Args:
        mean: Posterior means, larger is better. Shape (n,).
        draws: Joint draws from the posterior. Shape (draws, n).

    Source:
        Hsu 1984, with the posterior in place of the distribution of the estimates.
    """
    tied = np.ones(len(mean), dtype=bool)
    for at in range(len(mean)):
        error = (draws - draws[:, [at]]) - (mean - mean[at])
        sd = error.std(axis=0)
        known = sd > 0
        if known.any():
            critical = np.quantile((error[:, known] / sd[known]).max(axis=1), _COVERAGE)
            tied[at] = bool((mean[known] - mean[at] <= critical * sd[known]).all())
    return tied


def _common_settings(models: Mapping[str, NoiseModel], objectives: Objectives) -> list[Setting]:
    """Settings, then baselines; a ``ValueError`` if the objectives were measured for different ones."""
    first, *others = objectives
    settings: list[Setting] = [*models[first].settings, *models[first].baselines]
    keys = {setting_key(setting) for setting in settings}
    for name in others:
        measured: list[Setting] = [*models[name].settings, *models[name].baselines]
        own = {setting_key(setting) for setting in measured}
        if own != keys:
            raise ValueError(
                f"all objectives must be measured for the same settings, got {len(keys)} for {first} and {len(own)} "
                f"for {name}, {len(keys & own)} of them in common; leave out settings that lack an objective"
            )
    return settings


def _entries(
    models: Mapping[str, NoiseModel],
    objectives: Objectives,
    margins: Sequence[float],
    settings: Sequence[Setting],
    seed: int,
) -> tuple[tuple[Entry, ...], Array]:
    """The entries, and joint draws of their objectives, larger is better: shape (draws, entries, k)."""
    generator = np.random.default_rng(seed)
    posteriors = {name: models[name].posterior(settings) for name in objectives}
    means = {name: posterior.mean for name, posterior in posteriors.items()}
    signs = _signs(objectives)
    gains = np.stack([posteriors[name].draws(_DRAWS, generator) for name in objectives], axis=2) * signs
    front = is_nondominated(np.stack(list(means.values()), axis=1), list(objectives.values()))
    probability = front_probability(gains, margins)
    ties = {
        name: tied_with_best(sign * means[name], gains[:, :, at])
        for at, (name, sign) in enumerate(zip(objectives, signs, strict=True))
    }
    unit = np.eye(len(settings))
    baselines = {setting: at for at, setting in enumerate(settings) if isinstance(setting, str)}
    return tuple(
        Entry(
            setting=setting,
            means={name: float(means[name][at]) for name in objectives},
            intervals={name: posteriors[name].combination(unit[at]).interval() for name in objectives},
            on_front=bool(front[at]),
            probability=float(probability[at]),
            tied_with_best={name: bool(ties[name][at]) for name in objectives},
            beats={
                baseline: dict(zip(objectives, (gains[:, at] > gains[:, other]).mean(axis=0).tolist(), strict=True))
                for baseline, other in baselines.items()
                if other != at
            },
        )
        for at, setting in enumerate(settings)
    ), gains


def _recommended(means: Array, inside: npt.NDArray[np.bool_], names: Sequence[str]) -> tuple[int, int]:
    """The index of the recommended setting, and of the objective that it is best in."""
    allowed, column = inside.copy(), 0
    if CLEAN in names and ROBUST in names:
        column, clean = names.index(ROBUST), means[:, names.index(CLEAN)]
        allowed &= clean >= clean[inside].max() - _CLEAN_LOSS
    return int(np.argmax(np.where(allowed, means[:, column], -math.inf))), column


def _knee(entries: Sequence[Entry], means: Array) -> Entry | None:
    """The knee of the front; ``means`` (entries, k) are larger where better."""
    front = np.flatnonzero([entry.on_front for entry in entries])
    points = means[front]
    at = knee(points)
    return None if at is None else entries[int(front[at])]


def _against(
    recommended: Entry,
    entries: Sequence[Entry],
    means: Array,
    objectives: Objectives,
    confirmed: Mapping[str, Sequence[Observation]],
) -> dict[str, tuple[Advantage, ...]]:
    outside = [at for at, entry in enumerate(entries) if entry.is_baseline]
    against = {}
    for column, (name, sign) in enumerate(zip(objectives, _signs(objectives).tolist(), strict=True)):
        advantages = []
        for at in sorted(outside, key=lambda at: -means[at, column]):
            baseline = entries[at].setting
            paired = confirmed_difference(confirmed[name], recommended.setting, baseline)
            if paired is None:  # this baseline was not confirmed
                continue
            difference, seeds = paired
            low, high = sorted(sign * end for end in difference.interval)
            mean, baseline_text = sign * difference.mean, setting_text(baseline)
            advantages.append(Advantage(baseline=baseline_text, mean=mean, interval=Interval(low, high), seeds=seeds))
        against[name] = tuple(advantages)
    return against


def _sentence(result: Answer, goal: str, confirmed: Sequence[Observation]) -> str:
    """The answer: the choice, that it makes no difference, or what it would take to decide."""
    matter = result.matters[goal]
    if result.this_network_only:
        return matter.sentence
    parts = [_recommendation_text(result, goal, confirmed) if matter.matters else matter.sentence]
    parts += [other.sentence for name, other in result.matters.items() if name != goal and other.matters]
    for name, entry in result.best.items():
        if entry.is_baseline:
            parts.append(f"{setting_text(entry.setting)}, a baseline, is the best in {label(name)}")
    leading = {entry.setting for entry in result.best.values() if isinstance(entry.setting, str)}
    optimal = [
        entry.setting
        for entry in result.entries
        if isinstance(entry.setting, str) and entry.on_front and entry.setting not in leading
    ]
    parts += [f"{name}, a baseline, is on the front" for name in optimal]
    return "; ".join(parts)


def _recommendation_text(result: Answer, goal: str, confirmed: Sequence[Observation]) -> str:
    """The recommended setting with its confirmed value, and its advantage over the best baseline."""
    entry = result.recommended
    measured = confirmed_mean(confirmed, entry.setting)
    mean, interval = (entry.means[goal], entry.intervals[goal]) if measured is None else measured
    value = f"{100 * mean:.1f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
    if not is_accuracy(goal):
        value = f"{mean:.3g} ({range_text(goal, interval)})"
    rank = "most robust" if goal == ROBUST else f"best in {label(goal)}"
    text = f"{setting_text(entry.setting)} is the {rank}: {value}"
    advantage = result.over_baseline.get(goal)
    if advantage is None:
        return text
    side = "above" if advantage.mean >= 0 else "below"
    ends = advantage.interval if advantage.mean >= 0 else (-advantage.interval.high, -advantage.interval.low)
    amount = amount_text(goal, abs(advantage.mean))
    return f"{text}, {amount} {side} {advantage.baseline} ({range_text(goal, ends)}; {advantage.seeds} new seeds)"


def _signs(objectives: Objectives) -> Array:
    return np.array([1.0 if direction == "maximize" else -1.0 for direction in objectives.values()])
