from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torchattacks
from torch import Tensor, nn

from tests.trainables.victims import RADIUS, digits, linear, trained
from trainables.attacks.engine.victim import isolated_randomness
from trainables.attacks.torchattacks import CLASSES, Torchattacks


def test_the_version_is_the_one_we_measured() -> None:
    assert torchattacks.__version__ == "3.5.1"


def test_every_attack_of_the_package_is_known_by_name() -> None:
    # LGV and MultiAttack wrap other attacks, three are ours alone; VANILA is spelt as it is there.
    assert {*CLASSES} == {*torchattacks.__all__} - {
        "LGV",
        "MultiAttack",
        "FAB",
        "Square",
        "AutoAttack",
    }
    for name in CLASSES:
        Torchattacks(attack=name).prepare()


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("APGD", "stepz", "options must be arguments of APGD, got stepz; did you mean steps?"),
        ("PGDL2", "model", "options must be arguments of PGDL2, got model; "),
        ("VANILA", "steps", "options must be arguments of VANILA, got steps; it takes none"),
    ],
)
def test_an_unknown_option_is_one_line(name: str, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^options") as caught:
        Torchattacks(attack=name, options={option: 1}).prepare()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


class Recorder:
    """Stands in for an attack of torchattacks and returns what the test wants."""

    arguments: dict[str, object]
    change: Tensor | float

    def __init__(
        self, model: nn.Module, norm: str = "Linf", eps: float = 0.1, n_classes: int = 10, seed: int = 0, steps: int = 5
    ) -> None:
        del model
        Recorder.arguments = {"norm": norm, "eps": eps, "n_classes": n_classes, "seed": seed, "steps": steps}

    def set_device(self, device: torch.device) -> None:
        pass

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        del labels
        print("noise")
        warnings.warn("noise", stacklevel=2)
        return images + Recorder.change


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(torchattacks, "APGD", Recorder)
    return Recorder


def test_the_threat_model_is_passed_on_and_options_come_first(recorder: type[Recorder]) -> None:
    recorder.change = 0.0
    images, labels = digits(8)
    Torchattacks(attack="APGD")(trained(), images, labels, radius=0.7, seed=9)
    assert recorder.arguments == {"norm": "L2", "eps": 0.7, "n_classes": 5, "seed": 9, "steps": 5}
    Torchattacks(attack="APGD", options={"eps": 0.2, "seed": 4, "steps": 2})(trained(), images, labels, radius=0.7)
    assert recorder.arguments == {"norm": "L2", "eps": 0.2, "n_classes": 5, "seed": 4, "steps": 2}


def test_what_the_attack_prints_and_warns_is_swallowed(
    recorder: type[Recorder], capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.change = 0.0
    Torchattacks(attack="APGD")(trained(), *digits(8), radius=0.7)
    assert capsys.readouterr() == ("", "")


def boundary() -> tuple[nn.Sequential, Tensor, Tensor]:
    """Four pixels of 0.9; the label flips below a mean of 0.85, that is beyond an L2 distance of 0.1."""
    model = linear(torch.tensor([[1.0] * 4, [0.0] * 4]), torch.tensor([-3.4, 0.0]))
    return model, torch.full((1, 1, 2, 2), 0.9), torch.tensor([0])


@pytest.mark.parametrize(
    ("step", "kept"), [(-0.04, True), (-0.06, False), (-0.12500, False), (-0.12503, True), (torch.nan, True)]
)
def test_an_image_counts_only_if_misclassified_and_inside_the_ball(
    recorder: type[Recorder], step: float, kept: bool
) -> None:
    recorder.change = step
    model, image, label = boundary()
    result = Torchattacks(attack="APGD")(model, image, label, radius=0.25)
    assert bool(result.kept) is kept
    assert result.adversarial.isfinite().all()


def test_an_image_outside_the_box_is_clipped_before_it_is_judged(recorder: type[Recorder]) -> None:
    recorder.change = torch.tensor([[[[5.0, -0.9], [0.0, 0.0]]]])
    model, image, label = boundary()
    result = Torchattacks(attack="APGD")(model, image, label, radius=1.0)
    assert not result.kept
    torch.testing.assert_close(result.adversarial, torch.tensor([[[[1.0, 0.0], [0.9, 0.9]]]]))


def test_nan_of_a_real_attack_stays_with_its_image() -> None:
    """DeepFool divides by the gradient's norm."""
    model = linear(torch.zeros(3, 4), torch.tensor([1.0, 0.0, 0.0]))
    raw = torchattacks.DeepFool(model, steps=2)(torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 0]))
    assert raw.isnan().any()
    result = Torchattacks(attack="DeepFool", options={"steps": 2})(
        model, torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 0]), radius=1.0
    )
    assert result.kept.all()
    assert result.adversarial.isfinite().all()


def test_passes_are_counted() -> None:
    images, labels = digits(16)
    with torch.no_grad():
        attacked = int((trained()(images).argmax(1) == labels).sum())
    result = Torchattacks(attack="PGDL2", options={"steps": 3})(trained(), images, labels, radius=RADIUS, batch_size=5)
    assert result.forward_passes == len(images) + 3 * attacked + attacked
    assert result.backward_passes == 3 * attacked


@contextmanager
def drawn() -> Iterator[None]:
    """Checks that the global generators go on as if nothing had happened inside."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    yield
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_isolated_randomness_is_seeded_inside_and_restored_outside() -> None:
    draws = []
    for _ in range(2):
        with drawn(), isolated_randomness(5):
            draws.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert draws[0] == draws[1]
    with drawn(), pytest.raises(RuntimeError, match="stop"), isolated_randomness(5):
        raise RuntimeError("stop")
