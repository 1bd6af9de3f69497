"""The names of metrics: the one grammar of what is measured.

clean_accuracy              the share of clean images that are classified correctly
robust_accuracy             the share that survives every attack on every view, at the first radius
robust_accuracy@EPSILON     the same at a further radius
ATTACK/VIEW                 the share that survives one attack on its first view
ATTACK/worst                the same, at worst over the attack's views
audited_accuracy            what an audit leaves of robust_accuracy
claimed_accuracy            robust_accuracy as claimed, where the audited value has taken its place
validation_loss             in nats; a cost
train_seconds, attack_seconds   wall times; costs
train_passes, attack_passes   images that went forward or backward through the model
best_clean_accuracy, best_robust_accuracy   of the best epoch instead of the last, if a training keeps it
best_epoch                  that epoch, counted from 1
NAME[r]                     NAME of the seed with index r
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

Direction = Literal["maximize", "minimize"]

CLEAN: Final = "clean_accuracy"
ROBUST: Final = "robust_accuracy"
AUDITED: Final = "audited_accuracy"
CLAIMED: Final = "claimed_accuracy"
BEST_CLEAN: Final = "best_clean_accuracy"
BEST_ROBUST: Final = "best_robust_accuracy"
BEST_EPOCH: Final = "best_epoch"
WORST_VIEW: Final = "worst"

VALIDATION_LOSS: Final = "validation_loss"
TRAIN_SECONDS: Final = "train_seconds"
ATTACK_SECONDS: Final = "attack_seconds"
TRAIN_PASSES: Final = "train_passes"
ATTACK_PASSES: Final = "attack_passes"
COSTS: Final = (VALIDATION_LOSS, TRAIN_SECONDS, ATTACK_SECONDS)

_ATTACK: Final = "/"
_RADIUS: Final = "@"
_ACCURACY: Final = "_accuracy"


def at_radius(epsilon: float) -> str:
    """The name of robust accuracy at a further radius, e.g. ``robust_accuracy@2``; different for different radii."""
    short = f"{epsilon:g}"
    return f"{ROBUST}{_RADIUS}{short if float(short) == epsilon else repr(epsilon)}"


def under_attack(attack: str, views: Sequence[str]) -> list[str]:
    """The names of an attack's accuracies: on its first view, and at worst over its views where it has several."""
    return [f"{attack}{_ATTACK}{views[0]}", f"{attack}{_ATTACK}{WORST_VIEW}"][: len(views)]


def split_attack(name: str) -> tuple[str, str] | None:
    """The attack's label and the view (or ``worst``) of a name from ``under_attack``; None for another name."""
    attack, separator, view = name.rpartition(_ATTACK)
    return (attack, view) if separator else None


def radius_of(name: str) -> str:
    """The radius in a name from ``at_radius``, as it is written there; empty for another name."""
    return name.partition(_RADIUS)[2]


def of_seed(name: str, index: int) -> str:
    """The name of a metric of one seed."""
    return f"{name}[{index}]"


def is_accuracy(name: str) -> bool:
    """Whether a metric is a share of images."""
    return name.endswith(_ACCURACY) or is_under_attack(name)


def is_under_attack(name: str) -> bool:
    """Whether a metric is a share of the attacked images: the worst case at any radius, or one attack's."""
    return name.split(_RADIUS)[0] in (ROBUST, AUDITED, CLAIMED, BEST_ROBUST) or is_of_one_attack(name)


def is_of_one_attack(name: str) -> bool:
    """Whether a metric is one attack's accuracy."""
    return split_attack(name) is not None


def direction(name: str) -> Direction:
    """Which way a metric is better."""
    return "minimize" if name in COSTS else "maximize"
