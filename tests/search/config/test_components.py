"""Components in a configuration: read from YAML, and written back to an equal one."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel, ValidationError

from search.config.components import ComponentOf
from search.config.schema import parse
from tests.search.examples import small_config
from trainables.attacks import Attack
from trainables.attacks.apgd import APGD
from trainables.attacks.pgd import PGD
from trainables.attacks.torchattacks import Torchattacks


class Section(BaseModel):
    attack: Annotated[Attack, ComponentOf("attack")] = PGD()


def test_one_component_is_read_and_written() -> None:
    section = Section.model_validate({"attack": {"name": "pgd", "steps": 3, "views": ["raw"]}})
    assert section.attack == PGD(steps=3, views=("raw",))
    written = section.model_dump(mode="json")
    assert written["attack"]["name"] == "pgd"
    assert Section.model_validate(written) == section
    assert Section().model_dump()["attack"]["steps"] == 50


def test_a_mistake_is_at_its_field() -> None:
    with pytest.raises(ValidationError) as caught:
        Section.model_validate({"attack": {"name": "pgd", "stps": 3}})
    [mistake] = caught.value.errors()
    assert mistake["loc"] == ("attack",)
    assert str(mistake["ctx"]["error"]) == "stps must be a setting of pgd, got 3; did you mean steps?"


def test_a_configurations_attacks_are_read_and_written() -> None:
    attacks = [
        {"name": "pgd", "steps": 5, "remaining": False},
        {"name": "apgd", "loss": "dlr", "target": "likeliest", "remaining": True, "views": ["raw"]},
        {"name": "torchattacks", "attack": "APGD", "options": {"steps": 4}, "eot": 2},
    ]
    config = small_config(robustness={"attacks": attacks})
    assert config.robustness.attacks == (
        PGD(steps=5),
        APGD(loss="dlr", target="likeliest", remaining=True, views=("raw",)),
        Torchattacks(attack="APGD", options={"steps": 4}, eot=2),
    )
    document = config.to_document()
    assert document["robustness"]["attacks"][0] == {
        "name": "pgd",
        "remaining": False,
        "eot": 1,
        "steps": 5,
        "restarts": 1,
        "loss": "ce",
        "target": "untargeted",
    }
    assert parse(document) == config
