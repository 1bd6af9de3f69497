"""Attacks as components: made by name, named by their settings, imported without torch, and the user's own."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.victims import RADIUS, digits, trained
from trainables.attacks import Attack, ExternalAttack
from trainables.attacks.engine.victim import predict
from trainables.attacks.pgd import PGD
from trainables.registry import find, make, names

# What today's records, columns and seeds depend on.
LABELS: list[tuple[str, dict[str, Any], str]] = [
    ("pgd", {}, "pgd50-ce"),
    ("pgd", {"restarts": 3, "loss": "dlr", "eot": 4}, "pgd50-dlr-restarts=3-eot4"),
    ("pgd", {"target": "least-likely", "remaining": True, "views": ["raw"]}, "pgd50-ce-least-likely"),
    ("apgd", {}, "apgd100-ce"),
    ("apgd", {"target": "likeliest", "targets": 3, "restarts": 2}, "apgd100-ce-likeliest-restarts=2-targets=3"),
    ("ddn", {}, "ddn100"),
    ("deepfool", {"steps": 20, "overshoot": 0.05}, "deepfool-steps=20-overshoot=0.05"),
    ("fab", {"target": "likeliest"}, "fab100-likeliest"),
    ("square", {"share": 0.5}, "square5000-share=0.5"),
    ("simba", {"basis": "dct", "step": 1}, "simba300-dct-step=1.0"),
    ("noise", {"queries": 10}, "noise10"),
    ("autoattack", {}, "autoattack"),
    ("torchattacks", {"attack": "APGD", "options": {"steps": 50}}, "torchattacks.APGD-steps=50"),
]


@pytest.mark.parametrize(("name", "settings", "label"), LABELS, ids=[label for _, _, label in LABELS])
def test_labels(name: str, settings: dict[str, Any], label: str) -> None:
    attack = make("attack", name, settings)
    assert isinstance(attack, Attack)
    assert attack.label == label
    document = attack.to_document()
    again = make("attack", document.pop("name"), document)
    assert again == attack
    assert pickle.loads(pickle.dumps(attack)) == attack


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pgd", {"steps": 4, "restarts": 2, "eot": 2}),
        ("apgd", {"steps": 4, "target": "likeliest", "targets": 3}),
        ("ddn", {"steps": 5}),
        ("deepfool", {"steps": 5}),
        ("fab", {"steps": 5}),
        ("fab", {"steps": 5, "target": "likeliest", "targets": 3}),
        ("fmn", {"steps": 5}),
        ("noise", {"queries": 30}),
        ("simba", {"queries": 30}),
        ("square", {"queries": 30}),
    ],
)
def test_the_passes_that_plans_reckon_with_are_about_those_of_images_that_never_fall(
    name: str, settings: dict[str, Any]
) -> None:
    attack = make("attack", name, settings)
    assert isinstance(attack, Attack)
    images, _ = digits(16)
    result = attack(trained(), images, predict(trained(), images, 16).argmax(1), radius=1e-4)
    assert result.kept.all()
    passes = (result.forward_passes + result.backward_passes) / len(images)
    assert 0.4 * passes <= attack.passes <= 1.5 * passes


def test_no_built_in_imports_torch() -> None:
    code = "import sys; from trainables.registry import *; " + (
        "[find('attack', name) for name in names('attack')]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("module", ["trainables.registry", "trainables.settings", "trainables.attacks.pgd"])
def test_any_module_can_be_imported_first(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=60)


def test_every_built_in_says_what_it_follows() -> None:
    assert all(find("attack", name).source for name in names("attack"))


# ---- the user's own

MODULE = """
    from __future__ import annotations

    from collections.abc import Iterator
    from dataclasses import dataclass, replace

    import torch

    from trainables.attacks import Attack


    def number():
        return 3

    def brighten(strength: float = 1.0):
        def attack(model, images, labels, *, radius, norm, seed):
            assert not model.training and norm == "l2" and seed == 5
            return images + strength * radius / images[0].numel() ** 0.5
        return attack


    def cheat():
        return lambda model, images, labels, **_: torch.rand_like(images) * 9 - 4


    def crop():
        return lambda model, images, labels, **_: images[:, :, 1:]


    @dataclass(frozen=True, kw_only=True)
    class Darken(Attack):
        strength: float = 1.0

        def run(self, victim, batch, *, seed, batch_size) -> Iterator:
            moved = batch.ball.project(batch.clean - self.strength * batch.radius, batch.clean)
            yield replace(batch, images=moved).take(victim.logits(moved).argmax(1) != batch.labels)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "attacks_of_mine.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    monkeypatch.delitem(sys.modules, "attacks_of_mine", raising=False)
    return "attacks_of_mine"


def test_a_function_of_the_users_own(module: str) -> None:
    attack = make("attack", f"{module}:brighten", {"strength": 0.5, "eot": 1, "views": ["raw"]})
    assert isinstance(attack, ExternalAttack)
    assert attack.label == "brighten-strength=0.5"
    assert attack.views == ("raw",)
    assert attack.arguments == {"strength": 0.5}
    images, labels = digits(24)
    with torch.no_grad():
        correct = trained()(images).argmax(1) == labels
    result = attack(trained(), images, labels, radius=3.0, seed=5, batch_size=10)
    assert 0 < result.kept.sum() < correct.sum()
    moved = (images + 0.5 * 3.0 / 8).clamp(0, 1)
    torch.testing.assert_close(result.adversarial[~result.kept & correct], moved[~result.kept & correct])
    document = attack.to_document()
    assert make("attack", document.pop("name"), document) == attack


def test_a_factory_that_returns_no_attack_is_named(module: str) -> None:
    images, labels = digits(4)
    with pytest.raises(ValueError, match=rf"must name factories of attacks, got {module}:number, which returned int"):
        make("attack", f"{module}:number")(trained(), images, labels, radius=1.0, seed=0, batch_size=4)


def test_it_cannot_cheat(module: str) -> None:
    attack = make("attack", f"{module}:cheat")
    assert isinstance(attack, Attack)
    images, labels = digits(24)
    result = attack(trained(), images, labels, radius=RADIUS)
    change = (result.adversarial - images).flatten(1).norm(dim=1)
    assert (change <= RADIUS * 1.0001).all()
    assert 0 <= result.adversarial.min() <= result.adversarial.max() <= 1
    with torch.no_grad():
        survived = trained()(result.adversarial).argmax(1) == labels
    assert torch.equal(result.kept, survived & (result.distance != 0))
    wrong = make("attack", f"{module}:crop")
    assert isinstance(wrong, Attack)
    with pytest.raises(ValueError, match=r"^an attack must return images of shape .*, 1, 8, 8\), got .*, 1, 7, 8"):
        wrong(trained(), images, labels, radius=RADIUS)


def test_a_class_of_the_users_own(module: str) -> None:
    attack = make("attack", f"{module}:Darken", {"strength": 2, "remaining": True})
    assert isinstance(attack, Attack)
    assert attack.name == f"{module}:Darken"
    assert attack.label == "Darken-strength=2.0"
    assert attack(trained(), *digits(24), radius=5.0).kept.sum() < 24
    document = attack.to_document()
    assert document["name"] == f"{module}:Darken"
    assert make("attack", document.pop("name"), document) == attack


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("brighten", {"strenght": 1.0}, "strenght must be an argument of attacks_of_mine:brighten; did you mean stren"),
        ("brighten", {"remaining": 3}, "remaining must be true or false, got 3 (int); correct its type"),
        ("Darken", {"strenght": 1.0}, "strenght must be a setting of attacks_of_mine:Darken, got 1.0; did you mean"),
        ("Darken", {"eot": 0}, "eot must be at least 1, got 0; give a larger number"),
        ("Darkn", {}, "name must be something in attacks_of_mine, got attacks_of_mine:Darkn; correct"),
    ],
)
def test_what_the_users_own_must_be(module: str, name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"must be") as caught:
        make("attack", f"{module}:{name}", settings)
    assert str(caught.value).startswith(message)


def test_attacks_are_values() -> None:
    assert PGD() == PGD(steps=50)
    assert len({PGD(), PGD(steps=50), PGD(steps=10)}) == 2
