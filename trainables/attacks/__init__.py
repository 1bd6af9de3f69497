"""Attacks within a ball: one file per attack, which holds its settings and its behaviour.

Importing this package, or any attack, does not import torch. The base classes for new attacks are re-exported here;
`trainables.registry` makes an attack from its name.
"""

from trainables.attacks.engine.attack import (
    Attack,
    AttackLoss,
    AttackResult,
    IterativeAttack,
    MinimumNormAttack,
    QueryAttack,
    StepAttack,
    attack_seed,
)
from trainables.attacks.engine.batch import Batch, join
from trainables.attacks.engine.external import ExternalAttack
from trainables.attacks.engine.limits import count, positive

__all__ = [
    "Attack",
    "AttackLoss",
    "AttackResult",
    "Batch",
    "ExternalAttack",
    "IterativeAttack",
    "MinimumNormAttack",
    "QueryAttack",
    "StepAttack",
    "attack_seed",
    "count",
    "join",
    "positive",
]
