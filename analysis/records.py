"""The record of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from analysis.statistics import Interval, seeds_interval, student_interval, wilson_interval
from trainables.metrics import ROBUST, is_under_attack
from trainables.settings.space import Value

State = Literal["running", "complete", "pruned", "failed"]
Kind = Literal["search", "baseline", "replicates"]

# Prefixes of a trial's number.
BASELINE_PREFIX: Final = "B"
REPLICATES_PREFIX: Final = "R"
_KINDS: Final[dict[str, Kind]] = {"": "search", BASELINE_PREFIX: "baseline", REPLICATES_PREFIX: "replicates"}
NO_INTERVAL: Final = Interval(math.nan, math.nan)


def split_number(number: str) -> tuple[str, int]:
    """Splits a trial's number into prefix and count: ``("B", 0)`` for ``B0``, ``("", 7)`` for ``7``."""
    prefix = number.rstrip("0123456789")
    return prefix, int(number.removeprefix(prefix))


def kind_of(number: str) -> Kind:
    """What a trial is, by its number: part of the search, a baseline, or further replicates of either."""
    return _KINDS[split_number(number)[0]]


def value_text(value: Value) -> str:
    """A parameter's value for people: four significant digits of a float, everything else as YAML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """The outcome of one candidate. Accuracies are fractions in [0, 1].

    Args:
        number: The number in the search (``0``, ``1``, ...), ``B0``, ``B1``, ... for a baseline, or ``R0``, ``R1``,
            ... for further replicates.
        parameters: Values of the searched parameters. A bare name (``s``) belongs to the loss; others name their
            component (``train.learning_rate``, ``defence.epsilon``). Empty if there are none.
        state: Only a complete trial has objectives.
        objectives: Means over the replicates.
        constraints: How far each constraint (``clean_accuracy >= 0.97``) is missed; at most 0 where it is met.
        accuracies: Accuracies that are not objectives, among them each attack's (``pgd50-ce/normalized``,
            ``pgd50-ce/worst``); means over the replicates.
        replicates: Objectives and accuracies of each replicate, by the same names.
        images: The number of images behind an objective. An objective named here is a fraction of images.
        epochs: How many epochs have finished.
        train_seconds: Wall time, as is ``attack_seconds``.
        started: Unix time, as is ``finished``; None before it.
        checkpoint: Path of the checkpoint, relative to the run's folder.
        outcomes: Path of the per-image outcomes, relative to the run's folder.
        origin: The earlier run and number (``first/7``) of a trial taken over from it; None for the run's own.
        extends: The number of the setting that this is another seed of; None for a setting's first unit.
        seed_index: Which seed of its setting it was trained with, counted from 0.
        role: What it was trained for: ``search``, or ``confirmation`` of the search's contenders.
        extensions: The numbers of the further replicates that are pooled into this record.
        verdict: The audit's verdict on the worst case: ``sound``, ``masked`` or ``suspicious``; None without an
            audit. The audited number is ``audited_accuracy`` among the accuracies.
    """

    number: str
    loss: str
    defence: str = "none"
    parameters: Mapping[str, Value]
    state: State
    objectives: Mapping[str, float] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    accuracies: Mapping[str, float] = field(default_factory=dict)
    replicates: tuple[Mapping[str, float], ...] = ()
    seeds: tuple[int, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)
    epochs: int = 0
    train_seconds: float = 0.0
    attack_seconds: float = 0.0
    started: float | None = None
    finished: float | None = None
    failure: str | None = None
    checkpoint: str | None = None
    outcomes: str | None = None
    origin: str | None = None
    extends: str | None = None
    seed_index: int = 0
    role: str = "search"
    extensions: tuple[str, ...] = ()
    verdict: str | None = None

    def __post_init__(self) -> None:
        assert (self.kind == "replicates") == (self.extends is not None), self.number
        assert self.state in get_args(State), self.state
        assert bool(self.objectives) == (self.state == "complete"), f"trial {self.number} is {self.state}"
        assert all(map(math.isfinite, self.objectives.values())), f"trial {self.number}: {self.objectives}"

    @property
    def kind(self) -> Kind:
        """See ``kind_of``."""
        return kind_of(self.number)

    @property
    def is_baseline(self) -> bool:
        """Whether this is a reference setting, which never enters the front."""
        return self.kind == "baseline"

    @property
    def violation(self) -> float:
        """The sum of the amounts by which constraints are missed, in their units; 0 where all are met."""
        return sum(max(excess, 0.0) for excess in self.constraints.values())

    @property
    def feasible(self) -> bool:
        """Whether all constraints are met."""
        return self.violation == 0.0

    def value(self, name: str) -> float:
        """An objective or accuracy by name."""
        return self.objectives[name] if name in self.objectives else self.accuracies[name]

    def images_of(self, name: str) -> int | None:
        """The number of images behind an objective or accuracy; None for what is not a fraction of images."""
        return self.images.get(name) or (self.images.get(ROBUST) if is_under_attack(name) else None)

    def interval(self, name: str) -> Interval:
        """The 95 % interval of an objective or accuracy by name.

        With two or more replicates it is for another seed, and for an accuracy for other images too. With one it is
        Wilson's over the images: for this network only. NaN at both ends for one wall time.
        """
        value, images = self.value(name), self.images_of(name)
        if len(self.replicates) >= 2:
            if any(name not in replicate for replicate in self.replicates):  # measured for all replicates together
                return NO_INTERVAL
            values = [replicate[name] for replicate in self.replicates]
            return seeds_interval(values, images) if images else student_interval(values)
        return wilson_interval(round(value * images), images) if images else NO_INTERVAL


def in_order(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The search's trials by number (2 before 10), then the baselines, then further replicates."""
    return sorted(records, key=lambda record: split_number(record.number))
