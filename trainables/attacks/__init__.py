"""Attacks within a ball: one contract (`Attack`), one attack a file, and one place that knows their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from trainables.attacks.apgd import APGD
from trainables.attacks.base import Attack, AttackResult, attack_seed
from trainables.attacks.deepfool import DeepFool
from trainables.attacks.eot import EOT
from trainables.attacks.fab import FAB
from trainables.attacks.noise import Noise
from trainables.attacks.pgd import PGD
from trainables.attacks.simba import SimBA
from trainables.attacks.square import Square
from trainables.attacks.torchattacks_adapter import Torchattacks
from trainables.attacks.transfer import Transfer
from trainables.settings import ATTACKS, AttackSettings

__all__ = [
    "APGD",
    "EOT",
    "FAB",
    "PGD",
    "Attack",
    "AttackResult",
    "DeepFool",
    "Noise",
    "SimBA",
    "Square",
    "Torchattacks",
    "Transfer",
    "attack_seed",
    "make_attack",
]

# Each takes the settings that `trainables.settings.ATTACKS` lists for it, by their names.
_CLASSES: Final[Mapping[str, Callable[..., Attack]]] = {
    "pgd": PGD,
    "apgd": APGD,
    "deepfool": DeepFool,
    "fab": FAB,
    "square": Square,
    "simba": SimBA,
    "noise": Noise,
}


def make_attack(settings: AttackSettings) -> Attack:
    """The attack that the settings ask for.

    Raises:
        ValueError: An option that the torchattacks class does not take.
    """
    attack: Attack
    if settings.name in ATTACKS:
        attack = _CLASSES[settings.name](**{name: getattr(settings, name) for name in ATTACKS[settings.name].defaults})
    else:
        attack = Torchattacks(settings.name, settings.options)
    return EOT(attack, settings.eot) if settings.eot > 1 else attack
