"""Settings: what torch-free checks refuse, and that they know what the libraries offer."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.candidate import BASELINES, LOSSES, Candidate
from trainables.registry import make
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings


def test_checking_settings_needs_no_torch() -> None:
    code = "import sys, trainables.settings, trainables.data.sources; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@given(s=st.floats(0.5, 2.5), m=st.floats(-0.05, 0.15))
def test_a_setting_is_legal_within_the_papers_ranges_and_nowhere_else(s: float, m: float) -> None:
    legal = 1.0 <= s <= 2.0 and 0.0 <= m <= 0.1
    if legal:
        assert Candidate("i-sce", {"s": s, "m": m}).parameters == {"s": s, "m": m}
    else:
        with pytest.raises(ValueError, match=r"^[sm] must be in \["):
            Candidate("i-sce", {"s": s, "m": m})


def test_the_baselines_are_plain_and_normalised_cross_entropy() -> None:
    assert BASELINES["i-sce"] == (Candidate("cross-entropy", {}), Candidate("i-sce", {"s": 1.0, "m": 0.0}))
    assert LOSSES["i-sce"].reference == {"s": 1.0, "m": 0.1}


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({"name": "pgd"}, "pgd50-ce"),
        ({"name": "pgd", "loss": "dlr", "steps": 10}, "pgd10-dlr"),
        ({"name": "pgd", "target": "least-likely"}, "pgd50-ce-least-likely"),
        ({"name": "torchattacks", "attack": "APGD"}, "torchattacks.APGD"),
        ({"name": "torchattacks", "attack": "APGD", "options": {"steps": 20}}, "torchattacks.APGD-steps=20"),
    ],
)
def test_an_attacks_label_tells_it_from_others(settings: dict[str, Any], label: str) -> None:
    assert make("attack", settings.pop("name"), settings).label == label


def test_rms_epsilon_is_the_mean_square_radius() -> None:
    assert RobustnessSettings(epsilon=(0.04, 0.02), eps_convention="rms").radii(784) == pytest.approx(
        (0.04 * 28, 0.02 * 28)
    )
    assert RobustnessSettings(epsilon=1.5).radii(28 * 28) == (1.5,)
    assert RobustnessSettings(epsilon=0.02, eps_convention="rms").radii(3072) == pytest.approx(
        (0.02 * math.sqrt(3072),)
    )


def test_no_more_images_are_attacked_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"^robustness.images must be at most data.validation_size \(100\), got 101"):
        Problem(
            data=DataSettings(validation_size=100),
            model="lenet5",
            train=TrainSettings(),
            robustness=RobustnessSettings(images=101),
        )
