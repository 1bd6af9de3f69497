"""The one schema of a trial's record, and the table of all records that a run keeps."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from analysis.statistics import Interval, student_interval, wilson_interval
from trainables import files as atomic

if TYPE_CHECKING:
    import pandas as pd  # a second and more, which reading a ledger need not wait for

State = Literal["running", "complete", "pruned", "failed"]
Kind = Literal["search", "baseline", "replicates"]

# Of a trial's number.
BASELINE_PREFIX: Final = "B"
REPLICATES_PREFIX: Final = "R"
_KINDS: Final[dict[str, Kind]] = {"": "search", BASELINE_PREFIX: "baseline", REPLICATES_PREFIX: "replicates"}
NO_INTERVAL: Final = Interval(math.nan, math.nan)

# Every attack's accuracy is measured on the images of the worst case over the attacks.
WORST_CASE: Final = "robust_accuracy"
ATTACK_SEPARATOR: Final = "/"  # between attack and view in an accuracy's name
RADIUS_SEPARATOR: Final = "@"  # before a further radius in the name of the worst case there
# What an audit leaves of the worst case, and what was claimed where the verified number has taken its place.
VERIFIED: Final = "verified_accuracy"
CLAIMED: Final = "claimed_accuracy"
WORST_VIEW: Final = "worst"  # in the view's place: the accuracy at worst over the views


def split_number(number: str) -> tuple[str, int]:
    """A trial's number as prefix and count: ``("B", 0)`` of ``B0``, ``("", 7)`` of ``7``."""
    prefix = number.rstrip("0123456789")
    return prefix, int(number.removeprefix(prefix))


def kind_of(number: str) -> Kind:
    """What a trial is by its number: one of the search, a baseline, or further replicates of one of them."""
    return _KINDS[split_number(number)[0]]


def is_accuracy(measure: str) -> bool:
    """Whether a measure is a fraction of images."""
    return measure.endswith("_accuracy") or is_under_attack(measure)


def is_under_attack(measure: str) -> bool:
    """Whether a measure is a fraction of the attacked images: the worst case (at any radius), or one attack's."""
    return measure.split(RADIUS_SEPARATOR)[0] in (WORST_CASE, VERIFIED, CLAIMED) or ATTACK_SEPARATOR in measure


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What became of one setting. Accuracies are fractions in [0, 1].

    Args:
        number: The search's own number of the trial (``0``, ``1``, ...), or ``B0``, ``B1``, ... of a baseline, or
            ``R0``, ``R1``, ... of further replicates.
        loss: The loss's name.
        parameters: The loss's parameters; empty if it has none.
        state: Only a complete trial has objectives.
        objectives: Means over the replicates.
        constraints: By how much each constraint (``clean_accuracy >= 0.97``) is missed; at most 0 where it is met.
        accuracies: Those that are no objectives, under each attack (``pgd50-ce/normalized``, ``pgd50-ce/worst``) among
            them; means over the replicates.
        replicates: Objectives and accuracies of each replicate, by the same names.
        seeds: The seed of each replicate.
        images: How many images an objective rests on. An objective that is named here is a fraction of images.
        epochs: Finished epochs.
        train_seconds: Wall time of the training.
        attack_seconds: Wall time of the attacks.
        started: Unix time; None before the start.
        finished: Unix time; None before the end.
        failure: Why it failed.
        checkpoint: Path of the checkpoint, relative to the run's folder.
        outcomes: Path of the per-image outcomes, relative to the run's folder.
        origin: The earlier run and number (``first/7``) of a trial that was taken over; None of the run's own.
        extends: The number of the setting that this is another seed of; None for a setting's first unit.
        seed_index: Which seed of its setting it was trained with, counted from 0.
        role: What it was trained for: ``search``, or ``confirmation`` of the search's contenders.
        extensions: The numbers of the further replicates that are pooled into this record.
        verdict: What the audit says of the worst case: ``sound``, ``masked`` or ``suspicious``; None where there was
            none. What holds is ``verified_accuracy`` among the accuracies.
    """

    number: str
    loss: str
    parameters: Mapping[str, float]
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
    def is_baseline(self) -> bool:
        """Whether this is a reference setting, which never enters the search's front."""
        return self.kind == "baseline"

    @property
    def kind(self) -> Kind:
        """Whether this is a trial of the search, a baseline, or further replicates of one of them."""
        return kind_of(self.number)

    @property
    def violation(self) -> float:
        """The sum of what the missed constraints are missed by, in their units; 0 where all are met."""
        return sum(max(excess, 0.0) for excess in self.constraints.values())

    @property
    def feasible(self) -> bool:
        """Whether all constraints are met."""
        return self.violation == 0.0

    def value(self, name: str) -> float:
        """An objective or accuracy by its name."""
        return self.objectives[name] if name in self.objectives else self.accuracies[name]

    def images_of(self, name: str) -> int | None:
        """How many images an objective or accuracy rests on; None of what is no fraction of images."""
        return self.images.get(name) or (self.images.get(WORST_CASE) if is_under_attack(name) else None)

    def interval(self, name: str) -> Interval:
        """The 95 % interval of an objective or accuracy.

        Args:
            name: Its name in ``objectives`` or ``accuracies``.

        Returns:
            Student's t over the replicates where there are two or more; else Wilson over the images; NaN on both sides
            where neither is possible (a wall time). Intervals of fractions stay within [0, 1].
        """
        value, images = self.value(name), self.images_of(name)
        if len(self.replicates) >= 2:
            if any(name not in replicate for replicate in self.replicates):  # measured of all replicates together
                return NO_INTERVAL
            low, high = student_interval([replicate[name] for replicate in self.replicates])
            return Interval(max(low, 0.0), min(high, 1.0)) if images else Interval(low, high)
        return wilson_interval(round(value * images), images) if images else NO_INTERVAL


def in_order(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The search's trials by number (2 before 10), then the baselines, then further replicates."""
    return sorted(records, key=lambda record: split_number(record.number))


def to_frame(records: Iterable[TrialRecord]) -> pd.DataFrame:
    """The records as a table with one row a trial.

    Args:
        records: The trials, in any order.

    Returns:
        The trials ``in_order``. Columns, always in this order: number, kind (search, baseline or replicates), state,
        loss; each parameter; each objective, then each accuracy, as NAME, NAME_low, NAME_high; NAME[r] of each
        replicate r; feasible, violation (of complete trials); replicates (how many), seeds; images_NAME; epochs,
        train_seconds, attack_seconds, seconds; started, finished (ISO 8601, UTC); failure, checkpoint, outcomes,
        origin, extends, verdict. What a trial does not have is missing (NaN, NA).
    """
    import pandas as pd

    ordered = in_order(records)
    parameters = _names(record.parameters for record in ordered)
    measured = _names([*(record.objectives for record in ordered), *(record.accuracies for record in ordered)])
    images = _names(record.images for record in ordered)
    most_replicates = max((len(record.replicates) for record in ordered), default=0)

    columns: dict[str, pd.Series[str] | pd.Series[float] | pd.Series[int] | pd.Series[bool]] = {}

    def text(name: str, values: Iterable[str | None]) -> None:
        columns[name] = pd.Series(list(values), dtype="string")

    def real(name: str, values: Iterable[float]) -> None:
        columns[name] = pd.Series(list(values), dtype=np.float64)

    def whole(name: str, values: Iterable[int | None]) -> None:
        columns[name] = pd.Series(list(values), dtype="Int64")

    text("number", (record.number for record in ordered))
    text("kind", (record.kind for record in ordered))
    text("state", (record.state for record in ordered))
    text("loss", (record.loss for record in ordered))
    for name in parameters:
        real(name, (record.parameters.get(name, math.nan) for record in ordered))
    for name in measured:
        given = [name in record.objectives or name in record.accuracies for record in ordered]
        intervals = [record.interval(name) if has else NO_INTERVAL for record, has in zip(ordered, given, strict=True)]
        real(name, ({**record.accuracies, **record.objectives}.get(name, math.nan) for record in ordered))
        real(f"{name}_low", (interval.low for interval in intervals))
        real(f"{name}_high", (interval.high for interval in intervals))
    for name in measured:
        for r in range(most_replicates):
            real(
                f"{name}[{r}]",
                (
                    record.replicates[r].get(name, math.nan) if r < len(record.replicates) else math.nan
                    for record in ordered
                ),
            )
    complete = [record.state == "complete" for record in ordered]
    columns["feasible"] = pd.Series(
        [record.feasible if has else None for record, has in zip(ordered, complete, strict=True)], dtype="boolean"
    )
    real("violation", (record.violation if has else math.nan for record, has in zip(ordered, complete, strict=True)))
    whole("replicates", (len(record.replicates) or None for record in ordered))
    text("seeds", (" ".join(map(str, record.seeds)) for record in ordered))
    for name in images:
        whole(f"images_{name}", (record.images.get(name) for record in ordered))
    whole("epochs", (record.epochs for record in ordered))
    real("train_seconds", (record.train_seconds for record in ordered))
    real("attack_seconds", (record.attack_seconds for record in ordered))
    real("seconds", (record.train_seconds + record.attack_seconds for record in ordered))
    text("started", (_iso(record.started) for record in ordered))
    text("finished", (_iso(record.finished) for record in ordered))
    text("failure", (record.failure for record in ordered))
    text("checkpoint", (record.checkpoint for record in ordered))
    text("outcomes", (record.outcomes for record in ordered))
    text("origin", (record.origin for record in ordered))
    text("extends", (record.extends for record in ordered))
    text("verdict", (record.verdict for record in ordered))
    return pd.DataFrame(columns)


def measures(frame: pd.DataFrame) -> list[str]:
    """The measured columns of a table of ``to_frame``: the objectives first, then each attack's accuracy."""
    return [name for name in frame.columns if f"{name}_low" in frame.columns and f"{name}_high" in frame.columns]


def images_of(frame: pd.DataFrame, measure: str) -> pd.Series[float] | None:
    """How many images a measured column rests on, row by row.

    Args:
        frame: A table of ``to_frame``.
        measure: One of its ``measures``.

    Returns:
        The counts (NaN where unknown), or None if the measure is no fraction of images.
    """
    for column in (f"images_{measure}", f"images_{WORST_CASE}" if is_under_attack(measure) else ""):
        if column in frame.columns:
            return frame[column].astype("Float64").astype(np.float64)
    return None


def write(records: Iterable[TrialRecord], folder: Path) -> pd.DataFrame:
    """Writes ``trials.csv`` and ``trials.parquet``, each replaced at one stroke.

    Args:
        records: All trials of the run, baselines included.
        folder: The run's folder.

    Returns:
        The table that was written.
    """
    frame = to_frame(records)
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    atomic.write(folder / "trials.parquet", parquet.getvalue())
    atomic.write(folder / "trials.csv", frame.to_csv(index=False, lineterminator="\n"))
    return frame


def read(folder: Path) -> pd.DataFrame:
    """Reads the table that ``write`` left in a run's folder, with the types that ``to_frame`` gives.

    Raises:
        ValueError: The folder holds no ``trials.parquet``.
    """
    import pandas as pd

    path = folder / "trials.parquet"
    if not path.is_file():
        raise ValueError(f"{folder} must hold trials.parquet, got no such file; give the folder of a run")
    return pd.read_parquet(path)


def _names(mappings: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _iso(unix_time: float | None) -> str | None:
    return None if unix_time is None else datetime.fromtimestamp(unix_time, UTC).isoformat(timespec="milliseconds")
