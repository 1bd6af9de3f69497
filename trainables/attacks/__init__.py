"""Attacks within an L2 ball: one contract (`Attack`), one attack a file, and one place that knows their names."""

from __future__ import annotations

from trainables.attacks.base import Attack, AttackResult, attack_seed
from trainables.attacks.pgd import PGD
from trainables.attacks.torchattacks_adapter import Torchattacks
from trainables.settings import AttackSettings

__all__ = ["PGD", "Attack", "AttackResult", "Torchattacks", "attack_seed", "make_attack"]


def make_attack(settings: AttackSettings) -> Attack:
    """The attack that the settings ask for.

    Raises:
        ValueError: An option that the torchattacks class does not take.
    """
    if settings.name == "pgd":
        return PGD(settings.steps, settings.loss, settings.target, settings.restarts)
    return Torchattacks(settings.name, settings.options)
