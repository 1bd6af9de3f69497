"""The record of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from analysis.statistics import Interval, seeds_interval, student_interval, widened, wilson_interval
from trainables.metrics import CLAIMED, ROBUST, is_under_attack
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
    """The outcome of one candidate. Accuracies are fractions in [0, 1]."""

    number: str  # ``0``, ``1``, ... in the search; ``B0``, ... for a baseline; ``R0``, ... for further replicates
    loss: str
    defence: str = "none"
    # Values of the searched parameters. A bare name (``s``) belongs to the loss; others name their component
    # (``train.learning_rate``, ``defence.epsilon``). Empty if there are none.
    parameters: Mapping[str, Value]
    state: State  # only a complete trial has objectives
    objectives: Mapping[str, float] = field(default_factory=dict)  # means over the replicates
    # How far each constraint (``clean_accuracy >= 0.97``) is missed; at most 0 where it is met.
    constraints: Mapping[str, float] = field(default_factory=dict)
    # Accuracies that are not objectives, among them each attack's (``pgd50-ce/normalized``, ``pgd50-ce/worst``); means
    # over the replicates.
    accuracies: Mapping[str, float] = field(default_factory=dict)
    replicates: tuple[Mapping[str, float], ...] = ()  # objectives and accuracies of each replicate, by the same names
    seeds: tuple[int, ...] = ()
    images: Mapping[str, int] = field(default_factory=dict)  # behind each objective that is a fraction of images
    # Intervals by name, for another seed and other images, if the outcomes of each image are stored; see `interval`.
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    epochs: int = 0  # how many have finished
    train_seconds: float = 0.0  # wall time, as is the next
    attack_seconds: float = 0.0
    started: float | None = None  # Unix time, as is the next; None before it
    finished: float | None = None
    failure: str | None = None
    checkpoint: str | None = None  # its path, relative to the run's folder
    outcomes: str | None = None  # the path of the per-image outcomes, relative to the run's folder
    origin: str | None = None  # run and number (``first/7``) of a trial taken over from an earlier run
    extends: str | None = None  # the number of the setting that this is another seed of; None for its first unit
    seed_index: int = 0  # which seed of its setting it was trained with, counted from 0
    role: str = "search"  # what it was trained for: ``search``, or ``confirmation`` of the search's contenders
    # The numbers of the further units that are pooled into this record. A record that confirms excludes the setting's
    # first unit.
    extensions: tuple[str, ...] = ()
    confirmed: TrialRecord | None = None  # the setting measured with seeds and images that the search has not seen
    # The standard error of the robust accuracy lost under audit if only some replicates were audited; 0 if all were.
    audit_error: float = 0.0
    # The audit's verdict on the worst case: ``sound``, ``masked`` or ``suspicious``; None without an audit. The audited
    # number is ``audited_accuracy`` among the accuracies.
    verdict: str | None = None

    def __post_init__(self) -> None:
        assert (self.kind == "replicates") == (self.extends is not None), self.number
        assert self.state in get_args(State), self.state
        assert bool(self.objectives) == (self.state == "complete"), f"trial {self.number} is {self.state}"
        assert all(map(math.isfinite, self.objectives.values())), f"trial {self.number}: {self.objectives}"

    @property
    def kind(self) -> Kind:
        return kind_of(self.number)

    @property
    def is_baseline(self) -> bool:
        """Whether this is a reference setting, which never enters the front."""
        return self.kind == "baseline"

    @property
    def confirms(self) -> bool:
        """Whether this record holds a setting's confirmation; it stands beside the setting's own record."""
        return self.role == "confirmation" and self.extends is None

    @property
    def units(self) -> tuple[str, ...]:
        """The numbers of the units that are pooled into this record."""
        return self.extensions if self.confirms else (self.number, *self.extensions)

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

        With two or more replicates it is for another seed, and for an accuracy for other images too (too wide if it is
        not among ``intervals``). With one it is Wilson's over the images: for this network only. NaN at both ends for
        one wall time.
        """
        if name in self.intervals:
            return self.intervals[name]
        if name == ROBUST and self.confirms and CLAIMED in self.intervals:
            gap = self.accuracies[CLAIMED] - self.objectives[ROBUST]
            low, high = self.intervals[CLAIMED]
            return widened(Interval(low - gap, high - gap), self.objectives[ROBUST], self.audit_error)
        value, images = self.value(name), self.images_of(name)
        if len(self.replicates) >= 2:
            if any(name not in replicate for replicate in self.replicates):  # measured for all replicates together
                return NO_INTERVAL
            values = [replicate[name] for replicate in self.replicates]
            interval = seeds_interval(values, images) if images else student_interval(values)
            return widened(interval, value, self.audit_error) if name == ROBUST else interval
        return wilson_interval(round(value * images), images) if images else NO_INTERVAL


def in_order(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The search's trials by number (2 before 10), then the baselines, then further replicates."""
    return sorted(records, key=lambda record: split_number(record.number))
