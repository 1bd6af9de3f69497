"""Settings: what torch-free checks refuse, and that they know what the libraries offer."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest

from trainables.losses.cross_entropy import CrossEntropy
from trainables.models.lenet5 import LeNet5
from trainables.registry import make
from trainables.settings import DataSettings, Problem, RobustnessSettings, TrainSettings


def test_checking_settings_needs_no_torch() -> None:
    modules = "trainables.settings, trainables.candidate, trainables.data.partition.digests"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
            model=LeNet5(),
            loss=CrossEntropy(),
            train=TrainSettings(),
            robustness=RobustnessSettings(images=101),
        )
