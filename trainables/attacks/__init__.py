"""Attacks within a ball: base classes, and one file per attack with its settings and behaviour. Imports no torch."""

from trainables.attacks.engine.attack import (
    Attack,
    AttackResult,
    Batch,
    ExternalAttack,
    MinimumNormAttack,
    attack_seed,
)
from trainables.attacks.engine.iterative import QueryAttack, StepAttack
from trainables.settings.checks import count, positive

__all__ = [
    "Attack",
    "AttackResult",
    "Batch",
    "ExternalAttack",
    "MinimumNormAttack",
    "QueryAttack",
    "StepAttack",
    "attack_seed",
    "count",
    "positive",
]
