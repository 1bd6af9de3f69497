"""The audit on LeNet-5 with planted pairs: models and evaluations of which it is known whether they can be believed.

Rates over all seeds, and what the thresholds were frozen on: ``tests/benchmarks/audit_rates.py``. Its judged cases are
those of Fashion-MNIST here.
"""

from __future__ import annotations

import pytest

from tests.trainables.audit.planted_pairs import MASKED_MODELS, SOUND_MODELS, Data, audited

pytestmark = pytest.mark.slow

SEEDS = (100, 101, 102, 103, 104)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SOUND_MODELS)
def test_a_worst_case_is_believed_and_a_weak_evaluation_of_the_same_model_is_not(name: str, seed: int) -> None:
    for pair, result, position in audited(name, "fashion-mnist", seed):
        verdict = result.verdicts[position]
        assert (verdict.word == "sound") == pair.sound, (pair.name, verdict.sentence)


@pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"])
@pytest.mark.parametrize("name", MASKED_MODELS)
def test_masked_models_are_caught(name: str, data: Data) -> None:
    for pair, result, position in audited(name, data, SEEDS[0]):
        assert result.verdicts[position].word != "sound", pair.name
