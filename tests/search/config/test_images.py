"""The number of attacked images, chosen where a configuration does not give it."""

from __future__ import annotations

from typing import Any

import pytest
from ruamel.yaml import YAML

from search.config import SweepConfig, parse
from trainables.defences.adversarial_training import AdversarialTraining

BASE: dict[str, Any] = {
    "name": "chosen",
    "data": {"validation_size": 1000, "test_size": 500},
    "train": {"epochs": 6},
    "robustness": {"attacks": [{"name": "pgd", "steps": 20}]},
    "search": {"trials": 4},
}


def config(**sections: Any) -> SweepConfig:
    return parse({**BASE, **{name: {**BASE.get(name, {}), **section} for name, section in sections.items()}})


def test_the_choice_gives_the_least_variance_per_unit_of_work() -> None:
    """Among neighbours, for the costs of this configuration: 20 steps on two views; a quarter of them are expected."""
    images = config().robustness.images
    training, attack = 6 * 4000 * 2, 2 * 2 * 21 / 4

    def variance_times_work(n: int) -> float:
        return (2.9**2 + 1.9**2 * 200 / n) * (training + attack * n)

    assert images % 10 == 0
    assert 100 < images < 1000
    assert variance_times_work(images) <= min(map(variance_times_work, (images - 10, images + 10)))


def test_dearer_training_is_worth_more_images_and_dearer_attacks_fewer() -> None:
    usual = config().robustness.images
    defence = AdversarialTraining(epsilon=1.5, norm="l2", steps=5).to_document()
    assert config(defence=defence).robustness.images > usual
    assert config(train={"epochs": 12}).robustness.images > usual
    slow = [{"name": "pgd", "steps": 20}, {"name": "apgd", "steps": 100}]
    assert config(robustness={"attacks": slow}).robustness.images < usual
    assert config(robustness={"attacks": [{"name": "pgd", "steps": 20, "eot": 8}]}).robustness.images < usual


@pytest.mark.parametrize(
    ("sections", "images"),
    [
        ({"data": {"validation_size": 80}}, 80),
        ({"data": {"validation_size": 300}, "search": {"confirmation_seeds": 3}}, 150),
        ({"data": {"confirmation_size": 120}, "search": {"confirmation_seeds": 3}}, 120),
        ({"train": {"epochs": 1}, "robustness": {"attacks": [{"name": "square"}]}}, 100),
        ({"robustness": {"images": 7}}, 7),
    ],
)
def test_it_stays_within_the_images_that_there_are_and_is_never_too_few(sections: Any, images: int) -> None:
    chosen = config(**sections)
    assert chosen.robustness.images == images
    assert parse(YAML(typ="safe", pure=True).load(chosen.to_yaml())) == chosen


def test_without_a_section_it_is_chosen_too() -> None:
    assert parse({"name": "chosen", "search": {"trials": 4}}).robustness.images > 100
