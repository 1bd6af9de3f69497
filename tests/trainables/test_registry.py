from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter

from trainables.losses.i_sce import ISCE
from trainables.models import Model
from trainables.models.lenet5 import LeNet5
from trainables.optimizers.sgd import SGD
from trainables.registry import Kind, find, make, names, parse

KINDS: tuple[Kind, ...] = ("loss", "defence", "model", "optimizer")
BUILT_IN = [(kind, name) for kind in KINDS for name in names(kind)]
PLUGINS = "tests.trainables.plugins"


@pytest.mark.parametrize("kind", KINDS)
def test_reading_the_specification_of_every_built_in_costs_no_torch(kind: Kind) -> None:
    code = f"""
import sys
from trainables.registry import make, names
for name in names({kind!r}):
    component = make({kind!r}, name)
    component.domains, component.reference, component.to_document(), component.source
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_built_ins_are_the_files() -> None:
    assert names("loss") == ("arcface", "center", "cross-entropy", "i-sce", "l-gm", "label-smoothing", "mmc")
    assert names("model") == ("cnn8", "lenet5", "resnet32")
    assert names("defence") == ("adversarial-training", "none", "random-resize-pad", "trades")
    assert names("optimizer") == ("adam", "adamw", "sgd")


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_a_document_gives_the_same_component_back(kind: Kind, name: str) -> None:
    component = make(kind, name)
    assert component.name == name
    assert parse(kind, component.to_document()) == component
    assert parse(kind, name) == component
    assert pickle.loads(pickle.dumps(component)) == component
    assert all(domain.allows(component.reference[path]) for path, domain in component.domains.items())


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_name_is_refused_with_the_nearest(kind: Kind) -> None:
    name = names(kind)[0]
    with pytest.raises(ValueError, match=rf"^name must be one of .*did you mean {name}\?$"):
        make(kind, f"{name}x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentun": 0.9}, "momentun must be a setting of sgd, got 0.9; did you mean momentum"),
        ({"momentum": 2.0}, r"momentum must be in \[0, 1\], got 2.0"),
        ({"momentum": "high"}, "momentum must be a number, got high"),
        ({"nesterov": 1}, "nesterov must be true or false, got 1"),
        ({"momentum": 0, "nesterov": True}, "momentum must be above 0 with nesterov: true"),
    ],
)
def test_a_wrong_setting_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make("optimizer", "sgd", settings)


def test_values_have_the_fields_types() -> None:
    assert isinstance(ISCE().with_values({"s": 2}).s, float)
    with pytest.raises(ValueError, match="width must be a whole number"):
        LeNet5().with_values({"width": 1.5})


def test_pydantic_reads_a_name_or_a_mapping_and_writes_a_mapping() -> None:
    models = TypeAdapter(Model)
    assert models.validate_json('"lenet5"') == LeNet5()
    assert models.validate_json('{"name": "lenet5", "width": 2}') == LeNet5(width=2)
    assert models.dump_python(LeNet5(width=2), mode="json") == {"name": "lenet5", "width": 2}
    with pytest.raises(ValueError, match="widht must be a setting of lenet5, got 2"):
        models.validate_json('{"name": "lenet5", "widht": 2}')
    with pytest.raises(ValueError, match="name must be given, got 3"):
        models.validate_json("3")


def test_a_user_class_has_its_path_as_its_name_in_every_process() -> None:
    loss = make("loss", f"{PLUGINS}:Squared", {"power": 3})
    assert loss.name == f"{PLUGINS}:Squared"
    code = (
        "import pickle, sys; "
        "loss = pickle.loads(sys.stdin.buffer.read()); "
        f"assert loss.name == '{PLUGINS}:Squared' and loss.power == 3"
    )
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps(loss), check=True, timeout=60)


def test_a_function_of_the_users_own_has_its_arguments_as_settings() -> None:
    loss = make("loss", f"{PLUGINS}:focal", {"gamma": 1.0})
    assert (loss.name, loss.title) == (f"{PLUGINS}:focal", "focal")
    assert loss.parameters == ("gamma",)
    assert parse("loss", loss.to_document()) == loss
    with pytest.raises(ValueError, match=r"gama must be an argument of .*; did you mean gamma"):
        make("loss", f"{PLUGINS}:focal", {"gama": 1.0})
    with pytest.raises(ValueError, match="labels must be an argument of"):
        make("loss", f"{PLUGINS}:focal", {"labels": 1.0})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere:Loss", "no module named nowhere"),
        (f"{PLUGINS}:Missing", "correct the part after the colon"),
        (f"{PLUGINS}:dataclass:x", "must be package.module:factory"),
        (f"{PLUGINS}:__name__", "must be a class or function"),
        ("tests.trainables.broken_plugin:Loss", r"got tests.trainables.broken_plugin:Loss \(RuntimeError: not today\)"),
        ("trainables.optimizers.sgd:SGD", "must be a loss, got .* which is a optimizer"),
    ],
)
def test_a_path_that_names_no_component_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find("loss", path)


def test_a_built_in_class_keeps_its_name() -> None:
    assert find("optimizer", "trainables.optimizers.sgd:SGD") is SGD
    assert SGD.name == "sgd"
