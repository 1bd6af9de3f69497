"""The audit on LeNet-5 with planted pairs: models and evaluations of which it is known whether they can be believed.

One seed, the first of the benchmark's judged cases. Rates over all seeds, and what the thresholds were frozen on:
``tests/benchmarks/audit_rates.py``.
"""

from __future__ import annotations

import pytest

from tests.trainables.audit.planted_pairs import MASKED_MODELS, SOUND_MODELS, Data, audited

# Audits of models that draw at random average many draws per query: minutes each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED = 100


@pytest.mark.parametrize("name", SOUND_MODELS)
def test_a_worst_case_is_believed_and_a_weak_evaluation_of_the_same_model_is_not(name: str) -> None:
    for pair, result, position in audited(name, "fashion-mnist", SEED):
        verdict = result.verdicts[position]
        assert (verdict.word == "sound") == pair.sound, (pair.name, verdict.sentence)


@pytest.mark.parametrize("data", ["mnist5k", "fashion-mnist"])
@pytest.mark.parametrize("name", MASKED_MODELS)
def test_masked_models_are_caught(name: str, data: Data) -> None:
    for pair, result, position in audited(name, data, SEED):
        assert result.verdicts[position].word != "sound", pair.name
