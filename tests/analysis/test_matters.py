from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from analysis.matters import Matter, amount_text, extremes, largest_difference, parameters_matter, range_text
from analysis.noise import NoiseModel, Observation, Parameters, fit
from analysis.statistics import wilson_interval
from tests.analysis.planted import SPACE, Sweep, flat, scattered, trend
from trainables.metrics import ROBUST

MARGIN = 0.02
NEW_SEEDS = range(1000, 1040)

Truth = Callable[[Parameters], float]


def searched(sweep: Sweep, generator: np.random.Generator, settings: int = 16, seeds: int = 4) -> NoiseModel:
    return fit(sweep.units(scattered(settings, generator), range(seeds), generator), SPACE)


def verdict(sweep: Sweep, generator: np.random.Generator, new_seeds: int = 12, **size: int) -> Matter:
    """Searches, confirms the two extreme settings with new seeds, and judges."""
    model = searched(sweep, generator, **size)
    confirmation = sweep.units(extremes(model), NEW_SEEDS[:new_seeds], generator)
    return parameters_matter({ROBUST: model}, {ROBUST: MARGIN}, {ROBUST: confirmation})[ROBUST]


def test_an_effect_far_above_the_noise_matters() -> None:
    matter = verdict(Sweep(truth=trend(0.15)), np.random.default_rng(0))
    assert matter.matters is True
    assert matter.effect.low > 0
    assert matter.effect.low < 0.15 < matter.effect.high
    assert matter.sentence.startswith("the choice changes robust accuracy by")
    assert matter.sentence.endswith("(12 new seeds)")


def test_no_effect_under_little_noise_does_not_matter() -> None:
    matter = verdict(Sweep(interaction_sd=0.004), np.random.default_rng(0))
    assert matter.matters is False
    assert 0 <= matter.effect.low < matter.effect.high < MARGIN
    assert matter.sentence == "no (s, m) differs from another by 2 points or more in robust accuracy"


def test_few_noisy_units_decide_nothing_and_say_what_would() -> None:
    matter = verdict(Sweep(), np.random.default_rng(0), new_seeds=4, settings=8, seeds=2)
    assert matter.matters is None
    assert matter.visible is not None
    assert matter.units is not None
    assert matter.visible > 2 * MARGIN
    assert matter.units > 50
    assert f"about {matter.units} more units would show effects of 2 points" in matter.sentence
    assert f"effects below {amount_text(ROBUST, matter.visible)} in robust accuracy cannot be seen" in matter.sentence


def test_the_visible_effect_is_seen_four_times_in_five() -> None:
    """The effect that a confirmation reports as visible, against simulated confirmations."""
    from scipy.stats import ttest_1samp

    generator = np.random.default_rng(1)
    model = searched(Sweep(), generator, settings=8, seeds=6)
    high, low = extremes(model)
    values = np.array([0.1, -0.1, 0.05, -0.05, 0.02, -0.02, 0.01, -0.01])
    confirmation = [
        Observation(setting=setting, seed=seed, value=value)
        for setting, side in ((high, values), (low, -values))
        for seed, value in enumerate(side.tolist())
    ]
    matter = parameters_matter({ROBUST: model}, {ROBUST: MARGIN}, {ROBUST: confirmation})[ROBUST]
    assert matter.visible is not None
    interaction = model.components.interaction
    assert interaction is not None
    drawn = generator.normal(matter.visible, np.sqrt(2) * interaction / 100, (8, 4000))
    assert np.mean(ttest_1samp(drawn, 0).pvalue < 0.05) == pytest.approx(0.8, abs=0.06)


def test_nothing_matters_for_one_seed() -> None:
    matter = verdict(Sweep(truth=trend(0.3), interaction_sd=0.001), np.random.default_rng(0), seeds=1)
    assert matter.matters is None
    assert matter.sentence == "undecided: one seed shows robust accuracy of this network only"


def test_without_a_confirmation_no_effect_is_claimed() -> None:
    matter = verdict(Sweep(truth=trend(0.3)), np.random.default_rng(0), new_seeds=0)
    assert matter.matters is None
    assert matter.visible is None
    assert matter.effect.low > MARGIN


def test_what_the_search_alone_shows_is_said_with_what_would_confirm_it() -> None:
    matter = verdict(Sweep(truth=trend(0.3)), np.random.default_rng(0), new_seeds=0)
    assert matter.seen
    assert matter.matters is matter.units is matter.visible is None
    assert matter.sentence.startswith("undecided: in the search, the choice changes robust accuracy by 2")
    assert "search.most_confirmed" in matter.sentence
    assert not verdict(Sweep(truth=flat), np.random.default_rng(0), new_seeds=0).seen


def test_the_extremes_are_the_ends_of_a_trend() -> None:
    model = searched(Sweep(truth=trend(0.3)), np.random.default_rng(0))
    high, low = extremes(model)
    assert float(high["s"]) > 3.2
    assert float(low["s"]) < 1.8


def test_the_largest_difference_is_the_trends_and_repeats_itself() -> None:
    model = searched(Sweep(truth=trend(0.3), interaction_sd=0.01), np.random.default_rng(0))
    drawn = largest_difference(model)
    assert np.median(drawn) == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(drawn, largest_difference(model))


def test_several_objectives_share_the_risk() -> None:
    """A difference with p = 0.04 is no evidence if a second objective was tested too."""
    generator = np.random.default_rng(0)
    model = searched(Sweep(), generator, settings=6, seeds=3)
    high, low = extremes(model)
    units = Sweep(seed_sd=0.0).units([high, low], NEW_SEEDS[:8], generator)
    values = {seen.seed: seen.value for seen in units if seen.setting == low}
    noise = np.array([-3, -2, -1, 0, 0, 1, 2, 3]) / 100
    shift = 0.02  # t = 2.39 with 7 degrees of freedom: p = 0.048
    pairs = [
        type(seen)(
            setting=seen.setting,
            seed=seen.seed,
            value=values[seen.seed] + (noise[index] * 1.18 + shift if seen.setting == high else 0.0),
        )
        for index, seen in enumerate(units)
    ]
    alone = parameters_matter({"a": model}, {"a": MARGIN}, {"a": pairs})
    both = parameters_matter({"a": model, "b": model}, dict.fromkeys("ab", MARGIN), {"a": pairs, "b": units})
    assert alone["a"].matters is True
    assert both["a"].matters is not True


def test_effects_as_text() -> None:
    assert amount_text(ROBUST, 0.02) == "2 points"
    assert amount_text(ROBUST, 0.01) == "1 point"
    assert amount_text(ROBUST, 0.005) == "0.5 points"
    assert amount_text("validation_loss", 0.1234) == "0.123"
    assert range_text(ROBUST, (0.004, 0.058)) == "0.4 to 5.8"


def rates(truth: Truth, runs: int, **size: int) -> tuple[float, float]:
    """The shares of True and of False."""
    generator = np.random.default_rng(0)
    found = [verdict(Sweep(truth=truth), generator, **size).matters for _ in range(runs)]
    return found.count(True) / runs, found.count(False) / runs


def test_a_flat_task_rarely_seems_to_matter() -> None:
    true, _ = rates(flat, 25, settings=8, seeds=3)
    assert true <= 4 / 25  # with an error rate of 5 %, more have a chance of 1 in 140


def test_a_trend_is_mostly_found() -> None:
    true, false = rates(trend(0.12), 12, new_seeds=12, settings=8, seeds=4)
    assert true >= 0.75
    assert false == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("effect", "wrong"), [(0.0, True), (MARGIN, False), (2 * MARGIN, False)])
def test_wrong_answers_are_rare(effect: float, wrong: bool) -> None:
    """Four hundred units: 40 settings with 8 seeds, and two with 40 new ones."""
    runs = 400
    true, false = rates(trend(effect), runs, new_seeds=40, settings=40, seeds=8)
    rate = true if wrong else false
    assert rate <= 0.05
    assert wilson_interval(round(rate * runs), runs).high <= 0.08
