from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from analysis.noise import Observation, Parameters, Setting, fit
from analysis.verdict import Answer, answer, front_probability, tied_with_best
from tests.analysis.planted import SPACE, Sweep, scattered, trend
from trainables.metrics import CLEAN, ROBUST, Direction

OBJECTIVES: dict[str, Direction] = {CLEAN: "maximize", ROBUST: "maximize"}
MARGINS = {CLEAN: 0.005, ROBUST: 0.02}

Truth = Callable[[Parameters], float]


def clean_accuracy(truth: Truth = lambda _: 0.975, baseline: float = 0.975) -> Sweep:
    return Sweep(truth=truth, baseline=baseline, seed_sd=0.0039, interaction_sd=0.0036)


def judged(
    clean: Sweep, robust: Sweep, seeds: int = 6, new_seeds: int = 0, settings: int = 10, seed: int = 0
) -> tuple[Answer, dict[str, list[Observation]]]:
    """A search with a baseline, and the confirmation of everything by new seeds."""
    generator = np.random.default_rng(seed)
    points: list[Setting] = [*scattered(settings, generator), "SCE"]
    sweeps = {CLEAN: clean, ROBUST: robust}
    units = {name: sweep.units(points, range(seeds), generator) for name, sweep in sweeps.items()}
    models = {name: fit(seen, SPACE) for name, seen in units.items()}
    new = {name: sweep.units(points, range(100, 100 + new_seeds), generator) for name, sweep in sweeps.items()}
    return answer(models, OBJECTIVES, MARGINS, new if new_seeds else None), new


@cache
def trade_off() -> Answer:
    """Robust accuracy rises with s and clean accuracy falls."""
    return judged(
        clean_accuracy(lambda p: 0.98 - 0.03 * (float(p["s"]) - 1) / 3, baseline=0.97),
        Sweep(truth=trend(0.3), baseline=0.34),
        new_seeds=12,
    )[0]


def test_the_front_is_that_of_the_posterior_means() -> None:
    entries = trade_off().entries
    for entry in entries:
        beaten = any(
            all(other.means[name] >= entry.means[name] for name in OBJECTIVES) and other.means != entry.means
            for other in entries
        )
        assert entry.on_front is not beaten
    (baseline,) = [entry for entry in entries if entry.is_baseline]
    assert not baseline.on_front
    assert baseline.probability < 0.05
    assert max(entry.probability for entry in entries) > 0.95


def test_the_recommendation_is_the_most_robust_of_the_clean_ones() -> None:
    result = trade_off()
    inside = [entry for entry in result.entries if not entry.is_baseline]
    highest = max(entry.means[CLEAN] for entry in inside)
    allowed = [entry for entry in inside if entry.means[CLEAN] >= highest - 0.005]
    assert result.recommended is max(allowed, key=lambda entry: entry.means[ROBUST])
    assert len(allowed) < len(inside)
    assert result.told_apart
    assert result.knee is not None
    assert result.knee.on_front


def test_the_probability_of_beating_a_baseline_follows_the_means() -> None:
    for entry in trade_off().entries:
        if entry.is_baseline:
            assert entry.beats == {}
        elif float(entry.setting["s"]) > 3:  # type: ignore[index, arg-type]
            assert entry.beats["SCE"][ROBUST] > 0.99


def test_the_answer_states_the_confirmed_value_and_the_advantage() -> None:
    result, _ = judged(clean_accuracy(), Sweep(truth=trend(0.2), baseline=0.34), new_seeds=10)
    advantage = result.over_baseline[ROBUST]
    assert (advantage.baseline, advantage.seeds) == ("SCE", 10)
    assert advantage.interval.low < advantage.mean < advantage.interval.high
    assert " is the most robust: " in result.sentence
    assert f"{100 * advantage.mean:.2g}".split(".", maxsplit=1)[0] in result.sentence
    assert "points above SCE (" in result.sentence
    assert "10 new seeds)" in result.sentence


def test_confirmation_changes_no_choice() -> None:
    """Confirmation units that contradict the search move what is reported and nothing else."""
    generator = np.random.default_rng(0)
    points: list[Setting] = [*scattered(8, generator), "SCE"]
    sweeps = {CLEAN: clean_accuracy(), ROBUST: Sweep(truth=trend(0.2))}
    models = {name: fit(sweep.units(points, range(5), generator), SPACE) for name, sweep in sweeps.items()}
    new = {name: sweep.units(points, range(100, 106), generator) for name, sweep in sweeps.items()}
    turned = {name: [replace(seen, value=1 - seen.value) for seen in units] for name, units in new.items()}
    before, after = (answer(models, OBJECTIVES, MARGINS, units) for units in (new, turned))
    assert before.recommended == after.recommended
    assert before.entries == after.entries
    assert before.over_baseline[ROBUST].mean == pytest.approx(-after.over_baseline[ROBUST].mean)


def test_a_flat_task_has_no_answer() -> None:
    quiet = Sweep(interaction_sd=0.003)
    result, _ = judged(clean_accuracy(), quiet, seeds=8, settings=16)
    assert result.matters[ROBUST].matters is False
    assert result.sentence.startswith("no (s, m) differs from another by 2 points or more in robust accuracy")
    assert result.certainty > 0.95  # nothing is better by an effect of interest


def test_noise_that_hides_everything_is_undecided() -> None:
    result, _ = judged(clean_accuracy(), Sweep(), seeds=3, new_seeds=3)
    assert result.matters[ROBUST].matters is None
    assert result.sentence.startswith("undecided: ")
    assert not result.told_apart
    settings = [entry for entry in result.entries if not entry.is_baseline]
    assert all(entry.tied_with_best[ROBUST] for entry in settings)


def test_a_baseline_that_is_best_is_named() -> None:
    """As on Fashion-MNIST: plain cross entropy is more robust and less accurate than every setting."""
    result, _ = judged(clean_accuracy(lambda _: 0.86, baseline=0.83), Sweep(baseline=0.44), seeds=8, new_seeds=5)
    assert "SCE, a baseline, is the best in robust accuracy" in result.sentence
    assert result.best[ROBUST].setting == "SCE"
    assert not result.recommended.is_baseline
    assert result.over_baseline[ROBUST].mean < 0
    entry = next(entry for entry in result.entries if entry.is_baseline)
    assert entry.on_front
    assert entry.tied_with_best == {CLEAN: False, ROBUST: True}


def test_one_seed_answers_for_this_network_only() -> None:
    result, _ = judged(clean_accuracy(), Sweep(truth=trend(0.3)), seeds=1)
    assert result.this_network_only
    assert "this network only" in result.sentence


def test_an_answer_repeats_itself() -> None:
    first, second = (judged(clean_accuracy(), Sweep(), seeds=2, settings=5)[0] for _ in range(2))
    assert first == second


def test_lower_values_of_a_minimised_objective_are_better() -> None:
    generator = np.random.default_rng(0)
    points: list[Setting] = [*scattered(8, generator), "SCE"]
    loss = fit(Sweep(truth=trend(0.4), baseline=0.9).units(points, range(6), generator), SPACE)
    result = answer({"validation_loss": loss}, {"validation_loss": "minimize"}, {"validation_loss": 0.05})
    assert float(result.recommended.setting["s"]) < 2  # type: ignore[index, arg-type]
    assert result.recommended.beats["SCE"]["validation_loss"] > 0.99
    assert result.knee is None


def test_objectives_of_different_settings_are_refused() -> None:
    generator = np.random.default_rng(0)
    points = scattered(4, generator)
    models = {
        name: fit(Sweep().units(own, range(2), generator), SPACE)
        for name, own in ((CLEAN, points), (ROBUST, points[:3]))
    }
    with pytest.raises(ValueError, match="got 4 for clean_accuracy and 3 for robust_accuracy, 3 of them in common"):
        answer(models, OBJECTIVES, MARGINS)


def brute_force(draws: np.ndarray, margins: Sequence[float]) -> list[float]:  # type: ignore[type-arg]
    count, settings, k = draws.shape
    free = [0] * settings
    for draw, at in itertools.product(draws, range(settings)):
        free[at] += not any(
            all(other[j] >= draw[at][j] for j in range(k))
            and any(other[j] >= draw[at][j] + margins[j] for j in range(k))
            for other in draw
        )
    return [number / count for number in free]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_front_probabilities_are_those_of_brute_force(objectives: int) -> None:
    draws = np.random.default_rng(objectives).normal(size=(40, 7, objectives))
    margins = [0.3, 0.1, 0.5][:objectives]
    assert front_probability(draws, margins).tolist() == brute_force(draws, margins)


def test_a_tie_with_the_best_is_kept_in_95_percent() -> None:
    """Multiple comparisons with the best: the truly best of ten settings is rarely excluded."""
    generator = np.random.default_rng(0)
    truth = np.array([0.0] * 5 + [-0.5] * 4 + [-20.0])
    lost, apart = 0, 0
    for _ in range(200):
        mean = truth + generator.normal(size=10)
        tied = tied_with_best(mean, mean + generator.normal(size=(500, 10)))
        lost += not tied[0]
        apart += not tied[9]
    assert lost / 200 <= 0.08
    assert apart == 200


def test_settings_that_are_always_equal_are_tied() -> None:
    draws = np.repeat(np.random.default_rng(0).normal(size=(100, 1)), 3, axis=1)
    assert tied_with_best(np.zeros(3), draws).all()
