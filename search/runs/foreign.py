"""Someone else's study as a run: its trials, whatever recorded them, become records of settings and seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from analysis.frames import is_column
from analysis.records import REPLICATES_PREFIX, State, TrialRecord
from search.config import ImportConfig, Source, parse_import
from search.config.space import domain_document
from search.errors import UserError
from trainables.metrics import CLEAN, ROBUST, Direction, is_accuracy
from trainables.settings.checks import nearest
from trainables.settings.space import Choices, Domain, Range, Value

SEED: Final = "seed"  # the parameter that tells apart the seeds of a setting
_CLASH: Final = "params."  # before a parameter that has the name of a column
_DECADES: Final = 1000.0  # positive values with this ratio or more between the ends have a logarithmic axis


@dataclass(frozen=True)
class ForeignTrial:
    """A trial of someone else's study, with its own names.

    ``origin`` is how the study names it. Only a complete trial has ``values``.
    """

    number: int
    origin: str
    state: State
    parameters: Mapping[str, Value]
    values: Mapping[str, float] = field(default_factory=dict)
    started: float | None = None  # Unix time, as is the next
    finished: float | None = None
    failure: str | None = None


@dataclass(frozen=True)
class ForeignStudy:
    """Someone else's study, as it was read.

    Attributes:
        source: Where it is.
        directions: Its metrics, each with its direction if the study knows it.
        domains: The searched parameters; None if the study does not say, so that the values must.
        trials: Every trial that has begun.
        notes: What was left out, as sentences.
    """

    source: Source
    directions: Mapping[str, Direction | None]
    domains: Mapping[str, Domain] | None
    trials: Sequence[ForeignTrial]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Wanted:
    """What the user says of a study.

    Args:
        clean, robust: The metrics that are clean and robust accuracy.
        objectives: Further metrics to take as objectives, with their directions.
        percent: Whether accuracies are in percent.
        smallest_effect: The smallest difference of interest, by objective.
    """

    clean: str | None = None
    robust: str | None = None
    objectives: Mapping[str, Direction] = field(default_factory=dict)
    percent: bool = False
    smallest_effect: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Converted:
    """A study as a run: its configuration, its units, and what the manifest and the report say of it."""

    config: ImportConfig
    units: list[TrialRecord]
    metrics: Mapping[str, str]  # the study's names of the objectives
    notes: list[str]

    @property
    def source(self) -> dict[str, Any]:
        """For the manifest, besides ``config.source``."""
        begun = min((unit.started for unit in self.units if unit.started is not None), default=None)
        day = None if begun is None else datetime.fromtimestamp(begun, UTC).isoformat(timespec="seconds")
        return {"begun": day, "metrics": dict(self.metrics), "notes": self.notes}


def convert(study: ForeignStudy, name: str, wanted: Wanted) -> Converted:
    """A study as a run of this name.

    Raises:
        UserError: It does not have two objectives, or their values are not what they must be.
    """
    metrics, directions = _objectives(study, wanted)
    notes = list(study.notes)
    trials = [_measured(trial, metrics, wanted.percent) for trial in study.trials]
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        raise UserError(
            f"{study.source.title} must have a complete trial with {' and '.join(metrics.values())}, "
            f"got {len(trials)} trials without; finish one"
        )
    _check_fractions(complete, metrics)
    trials, renamed = _without_clashes(trials, directions)
    complete = [trial for trial in trials if trial.state == "complete"]
    notes += [
        f"The parameter {old} is called {new}: {old} names a column of the tables." for old, new in renamed.items()
    ]
    given = None if study.domains is None else {renamed.get(each, each): d for each, d in study.domains.items()}
    seeded = _has_seeds(complete)
    domains, constant, partial = _domains(complete, given, without=(SEED,) if seeded else ())
    if not domains:
        raise UserError(
            f"{study.source.title} must have a parameter that changes and that every complete trial has, "
            f"got none in {len(complete)} trials; record what was searched as parameters"
        )
    if constant:
        notes.append(
            f"The same in every trial, so not searched: {', '.join(f'{k} = {v}' for k, v in constant.items())}."
        )
    if partial:
        notes.append(f"Not searched, because some complete trials lack it: {', '.join(partial)}.")
    units, repeated = _units(trials, domains, seeded)
    if repeated:
        why = f"and the same {SEED}" if seeded else f"and there is no parameter {SEED}"
        notes.append(f"Left out, because an earlier trial has the same searched values {why}: {', '.join(repeated)}.")
    config = parse_import(
        {
            "name": name,
            "source": study.source.model_dump(),
            "objectives": directions,
            "space": {each: domain_document(domain) for each, domain in domains.items()},
            "smallest_effect": dict(wanted.smallest_effect),
        }
    )
    return Converted(config, units, metrics, notes)


def _objectives(study: ForeignStudy, wanted: Wanted) -> tuple[dict[str, str], dict[str, Direction]]:
    """The objectives' names, each with the study's name of it and with its direction."""
    known = study.directions
    named: dict[str, str] = {
        ours: theirs for ours, theirs in ((CLEAN, wanted.clean), (ROBUST, wanted.robust)) if theirs
    }
    for theirs in (*named.values(), *wanted.objectives):
        if theirs not in known:
            raise UserError(f"{study.source.title} must have the metric {theirs}; {nearest(theirs, list(known))}")
    chosen: dict[str, Direction] = dict(wanted.objectives)
    if any(direction is not None for direction in known.values()):  # the study has objectives of its own
        if len(known) != 2:
            raise UserError(
                f"{study.source.title} must have two objectives, got {len(known)} ({', '.join(known)}); choose another"
            )
        chosen = {theirs: direction for theirs, direction in known.items() if direction is not None}
    elif not named and not chosen:
        named = {each: each for each in (CLEAN, ROBUST) if each in known}
    names = named | {_plain(theirs): theirs for theirs in chosen if theirs not in named.values()}
    directions: dict[str, Direction] = {ours: chosen.get(theirs, "maximize") for ours, theirs in names.items()}
    if len(names) != 2:
        raise UserError(
            f"an import must have two objectives, got {len(names)} of the metrics of {study.source.title} "
            f"({', '.join(known)}); give --clean METRIC and --robust METRIC, or --objective twice"
        )
    for ours in (CLEAN, ROBUST):
        if directions.get(ours) == "minimize":
            raise UserError(
                f"{ours} must be maximized, got {names[ours]}, which the study minimizes; import it under its own name"
            )
    return names, directions


def _plain(metric: str) -> str:
    """A metric's name without what marks an attack, a radius or a seed in names of robustfront's own metrics."""
    return metric if metric in (CLEAN, ROBUST) else metric.replace("/", "_").replace("@", "_").replace("[", "_")


def _measured(trial: ForeignTrial, metrics: Mapping[str, str], percent: bool) -> ForeignTrial:
    """A trial with its objectives by their new names; failed if it lacks one."""
    if trial.state != "complete":
        return replace(trial, values={})
    missing = [theirs for theirs in metrics.values() if not math.isfinite(trial.values.get(theirs, math.nan))]
    if missing:
        return replace(trial, state="failed", values={}, failure=f"no finite {' and '.join(missing)}")
    values = {ours: trial.values[theirs] for ours, theirs in metrics.items()}
    return replace(
        trial, values={each: value / 100 if percent and is_accuracy(each) else value for each, value in values.items()}
    )


def _check_fractions(complete: Sequence[ForeignTrial], metrics: Mapping[str, str]) -> None:
    for ours, theirs in metrics.items():
        for trial in complete:
            if is_accuracy(ours) and not 0 <= trial.values[ours] <= 1:
                raise UserError(
                    f"{theirs} must lie in [0, 1], as accuracies do, got {trial.values[ours]:g} in trial "
                    f"{trial.number}; if it is in percent, add --percent"
                )


def _without_clashes(
    trials: Sequence[ForeignTrial], objectives: Mapping[str, Direction]
) -> tuple[list[ForeignTrial], dict[str, str]]:
    """The trials without parameters that have the name of a column, and the parameters' new names."""
    columns = {f"{name}{end}" for name in objectives for end in ("", "_low", "_high", "[0]")} | {
        "confirmed",
        "on_front",
    }
    names = dict.fromkeys(name for trial in trials for name in trial.parameters)
    renamed = {name: _CLASH + name for name in names if is_column(name) or name in columns}
    if not renamed:
        return list(trials), {}
    return [
        replace(trial, parameters={renamed.get(name, name): value for name, value in trial.parameters.items()})
        for trial in trials
    ], renamed


def _has_seeds(complete: Sequence[ForeignTrial]) -> bool:
    """Whether every complete trial has a whole number as its parameter ``seed``."""
    seeds = [trial.parameters.get(SEED) for trial in complete]
    return all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)


def _domains(
    complete: Sequence[ForeignTrial], given: Mapping[str, Domain] | None, without: Sequence[str]
) -> tuple[dict[str, Domain], dict[str, Value], list[str]]:
    """The searched parameters; those that never change, with their value; and those that only some trials have."""
    names = [name for name in dict.fromkeys(n for trial in complete for n in trial.parameters) if name not in without]
    shared = [name for name in names if all(name in trial.parameters for trial in complete)]
    values = {name: [trial.parameters[name] for trial in complete] for name in shared}
    constant = {name: each[0] for name, each in values.items() if len(set(each)) == 1 and len(each) > 1}
    domains = {
        name: _domain_of(each) if given is None or name not in given else given[name]
        for name, each in values.items()
        if name not in constant
    }
    return domains, constant, [name for name in names if name not in shared]


def _domain_of(values: Sequence[Value]) -> Domain:
    """The smallest domain of these values. A wide range of positive ones is logarithmic."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return Choices(choices=tuple(sorted(set(values), key=str)))
    low, high = (float(end(values)) for end in (min, max))
    whole = all(isinstance(value, int) for value in values)
    return Range(low=low, high=high, integer=whole, log=low > 0 and high / low >= _DECADES)


def _units(
    trials: Sequence[ForeignTrial], domains: Mapping[str, Domain], seeded: bool
) -> tuple[list[TrialRecord], list[str]]:
    """The trials as records, seeds of one setting together, and the numbers of repeated trials, which are left out.

    Without a parameter ``seed`` every trial counts as trained with the same one, 0.
    """
    units, repeated = [], []
    first: dict[Any, ForeignTrial] = {}
    seeds = defaultdict[Any, list[int]](list)
    for trial in trials:
        seed = int(trial.parameters.get(SEED, 0)) if seeded and trial.state == "complete" else 0
        parameters = {name: domains[name].cast(value) for name, value in trial.parameters.items() if name in domains}
        if trial.state != "complete":
            units.append(_record(trial, parameters, seed, None, 0))
            continue
        key = tuple(sorted(parameters.items()))
        if seed in seeds[key]:
            repeated.append(str(trial.number))
            continue
        setting = first.setdefault(key, trial)
        units.append(_record(trial, parameters, seed, None if setting is trial else setting, len(seeds[key])))
        seeds[key].append(seed)
    return units, repeated


def _record(
    trial: ForeignTrial, parameters: Mapping[str, Value], seed: int, setting: ForeignTrial | None, index: int
) -> TrialRecord:
    """A trial as a record: the first seed of its setting, or another one of ``setting``."""
    return TrialRecord(
        number=str(trial.number) if setting is None else f"{REPLICATES_PREFIX}{trial.number}",
        loss="",
        parameters=parameters,
        state=trial.state,
        objectives=dict(trial.values),
        replicates=(dict(trial.values),) if trial.state == "complete" else (),
        seeds=(seed,) if trial.state == "complete" else (),
        seed_index=index,
        started=trial.started,
        finished=trial.finished,
        failure=trial.failure,
        origin=trial.origin,
        extends=None if setting is None else str(setting.number),
    )
