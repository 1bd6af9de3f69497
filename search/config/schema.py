"""A sweep's configuration: YAML in, checked settings out.

Each component's settings stand beside the component (``trainables.settings``, or below for the search); this module
puts them together, checks what concerns several of them, and turns every mistake into one line that names the setting,
the value and the remedy.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Self, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from search.config.objectives import ACCURACIES, Constraint, Direction, directions
from search.config.rungs import rungs_of
from search.errors import UserError
from trainables.candidate import BASELINES, LOSSES, Candidate, LossName
from trainables.settings import (
    AUDITED_IMAGES,
    AttackSettings,
    DataSettings,
    ModelName,
    Problem,
    RobustnessSettings,
    Rungs,
    TrainSettings,
    nearest,
    space,
)
from trainables.settings.space import Domain

SamplerName = Literal["tpe", "nsga2", "nsga3", "gp", "qmc", "random", "grid"]

# Of the names of the studies beside the search's own.
BASELINES_SUFFIX: Final = "-baselines"
REPLICATES_SUFFIX: Final = "-replicates"
_FP32_EPSILON, _FP32_TINY = 2.0**-23, 2.0**-126  # spacing at 1; the smallest number in full precision
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _maximize_accuracies() -> dict[str, Direction]:
    return dict.fromkeys(ACCURACIES, "maximize")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LossConfig(_Section):
    """The loss whose parameters the search explores."""

    name: LossName = "i-sce"


class Range(_Section):
    """Where the search looks for one parameter: [low, high], or (low, high] with ``low_exclusive``."""

    low: float
    high: float
    low_exclusive: bool = False

    @property
    def lowest(self) -> float:
        """The smallest number that may be suggested: off an open end in single precision too, where losses compute."""
        return self.low + max(abs(self.low) * _FP32_EPSILON, _FP32_TINY) if self.low_exclusive else self.low

    def contains(self, value: float) -> bool:
        """Whether the search may try ``value``."""
        return self.lowest <= value <= self.high

    def __str__(self) -> str:
        return f"{'(' if self.low_exclusive else '['}{self.low:g}, {self.high:g}]"


class PlateauConfig(_Section):
    """A front that no longer grows.

    Args:
        trials: Finished settings to look back over.
        relative: The gain in hypervolume over them, as a fraction of it, that is too little to go on.
    """

    trials: int = Field(default=10, ge=1)
    relative: float = Field(default=0.001, ge=0.0)


class StopConfig(_Section):
    """What ends a search before its budget is spent. What runs then is finished, baselines and further replicates too.

    Args:
        hours: Hours in which a driver was at work on the sweep, those before an interruption included.
        device_hours: Hours of all trials, baselines included, times the GPUs that each holds, or its processors where
            it has no GPU.
        plateau: The front no longer grows.
    """

    hours: float | None = Field(default=None, gt=0.0)
    device_hours: float | None = Field(default=None, gt=0.0)
    plateau: PlateauConfig | None = None


class AuditConfig(_Section):
    """The audit of the Pareto-optimal settings, and the baselines, at the end of a sweep.

    Args:
        profile: How much it does (``trainables.audit``).
        minutes: After so long no further one is begun or waited for; ``robustfront audit RUN`` goes on.
        random: Settings beside the contenders, drawn at random: whether the sweep's own attacks put settings into the
            order of what holds cannot be seen in the contenders alone.
        cpus: Processors of an audit, one torch thread on each; a trial's where it is left out.
        gpus: GPUs of an audit, or a fraction of one; with 0 it runs on its processors, wherever it is. A trial's where
            it is left out.
    """

    profile: Literal["quick", "reference"] = "quick"
    minutes: float = Field(default=5.0, gt=0.0)
    random: int = Field(default=0, ge=0)
    cpus: int | None = Field(default=None, ge=1)
    gpus: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)


class HalvingConfig(_Section):
    """Early stopping: at each rung about one of ``reduction_factor`` settings goes on, judged by all objectives.

    Robust accuracy at a rung is an estimate: PGD on cross entropy in the first of ``robustness.views``.

    Args:
        first_epoch: The first rung; the others follow by the factor. A ninth of ``train.epochs`` where it is left out:
            curves that cross later than that deceive fewer comparisons (tests/benchmarks/halving.py).
        reduction_factor: Above 1.
        steps: PGD's.
        images: Validation images attacked at a rung.
    """

    first_epoch: int | None = Field(default=None, ge=1)
    reduction_factor: float = Field(default=3.0, gt=1, allow_inf_nan=False)
    steps: int = Field(default=10, ge=1)
    images: int = Field(default=200, ge=1)

    def first_rung(self, epochs: int) -> int:
        """The first rung of a training of so many epochs."""
        return self.first_epoch or max(1, round(epochs / 9))


class SearchConfig(_Section):
    """How settings are chosen.

    Args:
        sampler: ``tpe``, ``nsga2``, ``nsga3``, ``gp`` (takes the driver 600 MB for torch and about a second a setting),
            ``qmc`` (a Sobol' sequence), ``random``, or ``grid``: every point of ``grid``, in order.
        trials: Units (a setting with one seed) to finish, baselines not counted; a whole grid where it is left out.
        seed: Each suggestion is drawn from (seed, trial number).
        concurrency: Trials at a time; as many as the resources hold where it is left out.
        enqueue: Settings to try first, after the authors' own.
        warm_start: Earlier runs of the same problem, by name or path, whose finished trials are taken over: the search
            learns from them and they count for its front, not for its budget.
        warm_start_force: Whether runs of another problem will do.
        grid: Points of each parameter, for the sampler ``grid``.
        stop: What ends the search before ``trials`` are finished.
        halving: Stops settings early that others leave behind; ``{}`` for its defaults.
        replicates_for_front: How many replicates the front's settings and the baselines have in the end. Those beyond
            ``train.replicates`` are trained once the search is over; no search result is changed by them.
    """

    sampler: SamplerName = "tpe"
    trials: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    concurrency: int | None = Field(default=None, ge=1)
    enqueue: list[dict[str, float]] = Field(default_factory=list)
    warm_start: list[str] = Field(default_factory=list)
    warm_start_force: bool = False
    grid: dict[str, int] = Field(default_factory=dict)
    stop: StopConfig = Field(default_factory=StopConfig)
    halving: HalvingConfig | None = None
    replicates_for_front: int | None = None


class ResourcesConfig(_Section):
    """What one trial occupies, and how many failed trials are replaced.

    Args:
        cpus_per_trial: Processors of a trial; it runs one torch thread on each.
        gpus_per_trial: GPUs of a trial, or a fraction of one.
        max_failures: Failed trials that are replaced by new ones before the sweep gives up.
    """

    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    max_failures: int = Field(default=3, ge=0)

    @property
    def devices_per_trial(self) -> float:
        """GPUs of a trial, or its processors where it has no GPU: what device-hours count."""
        return self.gpus_per_trial or float(self.cpus_per_trial)


class TrackingConfig(_Section):
    """MLflow: the tracking URI (a SQLite file in the runs folder where it is left out) and the experiment."""

    uri: str | None = None
    experiment: str = Field(default="robustfront", min_length=1)


class StorageConfig(_Section):
    """Optuna's storage, the ledger: any SQLAlchemy URL (``study.db`` in the run's folder where it is left out)."""

    url: str | None = None


class SweepConfig(_Section):
    """A whole sweep, checked. See the README for an example.

    Args:
        objectives: Two or more numbers that a trial gives (``search.objectives``), with their direction.
        constraints: Bounds on such numbers, e.g. ``clean_accuracy: ">= 0.97"``.
    """

    name: str
    data: DataSettings = Field(default_factory=DataSettings)
    model: ModelName = "lenet5"
    loss: LossConfig = Field(default_factory=LossConfig)
    train: TrainSettings = Field(default_factory=TrainSettings)
    space: dict[str, Range] = Field(default_factory=dict)
    objectives: dict[str, Direction] = Field(default_factory=_maximize_accuracies)
    constraints: dict[str, str] = Field(default_factory=dict)
    robustness: RobustnessSettings = Field(default_factory=RobustnessSettings)
    search: SearchConfig = Field(default_factory=SearchConfig)
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    storage: StorageConfig = Field(default_factory=StorageConfig)
    audit: AuditConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_name(self.name)
        self.problem  # noqa: B018  (its own checks run as it is built)
        self._check_space()
        self._check_objectives()
        self._check_search()
        self._check_audit()
        self._check_gpus()
        return self

    def _check_gpus(self) -> None:
        asked = [("resources.gpus_per_trial", self.resources.gpus_per_trial)]
        asked += [("audit.gpus", self.audit.gpus or 0.0)] if self.audit is not None else []
        for setting, gpus in asked:
            if gpus > 1 and gpus % 1:
                raise ValueError(f"{setting} must be a whole number or at most 1, got {gpus:g}; choose {gpus // 1:g}")

    def _check_audit(self) -> None:
        asked = [(f"audit.profile {self.audit.profile}", self.audit.profile)] if self.audit is not None else []
        asked += [("robustness.gate audit", "quick")] if self.robustness.gate is not None else []
        for setting, profile in asked:
            if self.data.validation_size < AUDITED_IMAGES[profile]:
                raise ValueError(
                    f"data.validation_size must be at least {AUDITED_IMAGES[profile]} for {setting}, "
                    f"got {self.data.validation_size}; raise it or leave the audit out"
                )

    def _check_objectives(self) -> None:
        known = directions(self.robustness)
        for section in ("objectives", "constraints"):
            for name in getattr(self, section):
                if name not in known:
                    raise ValueError(
                        f"{section}.{name} must be something that this sweep measures; {nearest(name, list(known))}"
                    )
        for name, direction in self.objectives.items():
            if direction != known[name]:
                raise ValueError(f"objectives.{name} must be {known[name]}, got {direction}; turn it round")
        if len(self.objectives) < 2:
            raise ValueError(
                f"objectives must name at least two, got {', '.join(self.objectives) or 'none'}; "
                f"leave them out for {' and '.join(ACCURACIES)}"
            )
        for name, text in self.constraints.items():
            try:
                Constraint.parse(name, text)
            except ValueError as error:
                raise ValueError(f"constraints.{error}") from None

    def _check_space(self) -> None:
        limits = LOSSES[self.loss.name].parameters
        if not limits:
            raise ValueError(
                f"loss.name must be a loss with parameters to search, got {self.loss.name}; "
                f"{nearest(self.loss.name, [name for name, spec in LOSSES.items() if spec.parameters])}"
            )
        for name, range_ in self.space.items():
            path = f"space.{name}"
            if name not in limits:
                raise ValueError(f"{path} must be a parameter of {self.loss.name}; {nearest(name, list(limits))}")
            legal = limits[name]
            if not (math.isfinite(range_.low) and math.isfinite(range_.high)):
                raise ValueError(f"{path} must have finite ends, got {range_}; give numbers in {legal}")
            if range_.low > range_.high:
                raise ValueError(
                    f"{path}.low must be at most {path}.high, got {range_.low:g} and {range_.high:g}; swap the two"
                )
            if range_.low < legal.low or range_.high > legal.high:
                raise ValueError(
                    f"{path} must lie in {legal}, got low {range_.low:g} and high {range_.high:g}; narrow the range"
                )
            if legal.low_exclusive and not range_.contains(range_.high):
                raise ValueError(f"{path}.high must be above {legal.low:g}, got {range_.high:g}; raise it")
            if legal.low_exclusive and range_.contains(legal.low):
                raise ValueError(
                    f"{path}.low must be above {legal.low:g}, got {range_.low:g}; raise it or set low_exclusive: true"
                )

    def _check_search(self) -> None:
        ranges = self.ranges
        for position, parameters in enumerate(self.search.enqueue):
            path = f"search.enqueue[{position}]"
            try:
                Candidate(self.loss.name, parameters)
            except ValueError as error:
                raise ValueError(f"{path}.{error}") from None
            for name, value in parameters.items():
                if not ranges[name].contains(value):
                    raise ValueError(
                        f"{path}.{name} must lie in the space's range up to {ranges[name].high:g}, got {value:g}; "
                        "widen the space or drop the setting"
                    )
        halving = self.search.halving
        if halving is not None:
            if (first := halving.first_rung(self.train.epochs)) >= self.train.epochs:
                raise ValueError(
                    f"search.halving.first_epoch must be below train.epochs ({self.train.epochs}), "
                    f"got {first}; train longer or leave search.halving out"
                )
            if halving.images > self.data.validation_size:
                raise ValueError(
                    f"search.halving.images must be at most data.validation_size ({self.data.validation_size}), "
                    f"got {halving.images}; attack fewer"
                )
        wanted = self.search.replicates_for_front
        if wanted is not None and wanted < self.train.replicates:
            raise ValueError(
                f"search.replicates_for_front must be at least train.replicates ({self.train.replicates}), "
                f"got {wanted}; raise it or leave it out"
            )
        if self.search.sampler != "grid":
            if self.search.grid:
                raise ValueError(
                    f"search.grid must be left out for the sampler {self.search.sampler}, got {self.search.grid}; "
                    "set search.sampler: grid"
                )
            if self.search.trials is None:
                raise ValueError(
                    f"search.trials must be given for the sampler {self.search.sampler}, got nothing; 24 is a start"
                )
            return
        if self.search.warm_start:
            raise ValueError(
                f"search.warm_start must be left out for the sampler grid, got {self.search.warm_start}; "
                "a grid trains each of its points"
            )
        example = ", ".join(f"{name}: 5" for name in ranges)
        if set(self.search.grid) != set(ranges) or any(points < 2 for points in self.search.grid.values()):
            raise ValueError(
                f"search.grid must give at least 2 points for each of {', '.join(ranges)}, got {self.search.grid}; "
                f"write {{{example}}}"
            )
        size = len(self.fixed_settings) * self.train.replicates
        if self.search.trials not in (None, size):
            raise ValueError(
                f"search.trials must be {size} for this grid (its points and the enqueued settings), "
                f"got {self.search.trials}; leave it out or change search.grid"
            )

    @property
    def problem(self) -> Problem:
        """What all trials share."""
        return Problem(data=self.data, model=self.model, train=self.train, robustness=self.robustness)

    @property
    def rungs(self) -> Rungs | None:
        """Where settings are compared during their training, and how; None without halving."""
        halving = self.search.halving
        if halving is None:
            return None
        attack = AttackSettings(name="pgd", steps=halving.steps)
        return Rungs(
            epochs=rungs_of(self.train.epochs, halving.first_rung(self.train.epochs), halving.reduction_factor),
            robustness=replace(
                self.robustness,
                attacks=(attack,),
                epsilon=self.robustness.epsilons[0],
                views=self.robustness.views[:1],
                images=halving.images,
            ),
        )

    @property
    def audit_resources(self) -> tuple[int, float]:
        """Processors and GPUs of a contender's audit: a trial's, as far as the configuration does not say."""
        audit, resources = self.audit or AuditConfig(), self.resources
        cpus = resources.cpus_per_trial if audit.cpus is None else audit.cpus
        return cpus, resources.gpus_per_trial if audit.gpus is None else audit.gpus

    @property
    def bounds(self) -> tuple[Constraint, ...]:
        """The constraints, read."""
        return tuple(Constraint.parse(name, text) for name, text in self.constraints.items())

    @property
    def ranges(self) -> dict[str, Range]:
        """Where the search looks for each parameter, in the loss's own order; its legal limits by default."""
        return {
            name: self.space.get(name, Range(low=limits.low, high=limits.high, low_exclusive=limits.low_exclusive))
            for name, limits in LOSSES[self.loss.name].parameters.items()
        }

    @property
    def domains(self) -> dict[str, Domain]:
        """Where the search looks for each parameter."""
        return {
            name: space.Range(low=range_.low, high=range_.high, low_exclusive=range_.low_exclusive)
            for name, range_ in self.ranges.items()
        }

    @property
    def baselines(self) -> tuple[Candidate, ...]:
        """The reference settings B0, B1, ... that are trained beside the search."""
        return BASELINES[self.loss.name]

    def baselines_for(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The baselines that a setting is compared with: they share its values of all but the loss's parameters."""
        del candidate  # all parameters are the loss's
        return self.baselines

    @property
    def fixed_settings(self) -> list[dict[str, float]]:
        """Settings whose values no sampler chooses, in order: the authors' own, the enqueued, the grid's points."""
        ranges = self.ranges
        reference = dict(LOSSES[self.loss.name].reference)
        wanted = [reference] if all(ranges[name].contains(value) for name, value in reference.items()) else []
        wanted += [{name: float(setting[name]) for name in ranges} for setting in self.search.enqueue]
        if self.search.sampler == "grid":
            wanted += _grid_points(ranges, self.search.grid)
        distinct: list[dict[str, float]] = []
        for setting in wanted:
            if setting not in distinct:
                distinct.append(setting)
        return distinct

    @property
    def budget(self) -> int:
        """Units (a setting and a seed) to finish, baselines not counted."""
        trials = self.search.trials
        return trials if trials is not None else len(self.fixed_settings) * self.train.replicates

    def to_yaml(self) -> str:
        """The resolved configuration; ``load`` reads it back to an equal one, but for passwords in its URLs.

        What is written down lacks them: clients find them in PGPASSWORD or ``~/.pgpass``, MLFLOW_TRACKING_USERNAME and
        MLFLOW_TRACKING_PASSWORD.
        """
        stream = StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        document = self.to_document()
        for section, key in (("storage", "url"), ("tracking", "uri")):
            if document[section][key] is not None:
                document[section][key] = without_password(document[section][key])
        yaml.dump(document, stream)
        return stream.getvalue()

    def to_document(self) -> dict[str, Any]:
        """The resolved configuration as plain values; ``parse`` reads it back to an equal one."""
        document = self.model_dump(mode="json")
        attacks = document["robustness"]["attacks"]
        # What an attack does not have is None, and would only be noise.
        document["robustness"]["attacks"] = [
            {name: value for name, value in attack.items() if value is not None} for attack in attacks
        ]
        return document


def without_password(url: str, shown: str = "") -> str:
    """A database's URL without its password, or with ``shown`` in its place."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user = credentials.partition(":")[0]
    has_one = at and ":" in credentials and not scheme.startswith("sqlite")
    return f"{scheme}{separator}{user}{shown}@{host}" if has_one else url


def load(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> SweepConfig:
    """Reads a configuration file.

    Args:
        path: The YAML file.
        overrides: ``KEY=VALUE`` pairs; a key is a dotted path (``search.trials``), a value is YAML.
        name: Replaces the file's ``name``.

    Raises:
        UserError: The file is missing, does not parse or holds a value that is not legal.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"config must be an existing file, got {path}; try configs/quickstart.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config must be a readable text file, got {path} ({error}); choose another file") from None
    document = _parse_yaml(text, str(path))
    if not isinstance(document, dict):
        kind = "nothing" if document is None else type(document).__name__
        raise UserError(f"{path} must hold a mapping of settings, got {kind}; see configs/quickstart.yaml")
    for override in overrides:
        _override(document, override)
    if name is not None:
        document["name"] = name
    return parse(document)


def replaced(config: SweepConfig, values: Mapping[str, Any], overrides: Sequence[str] = ()) -> SweepConfig:
    """A configuration with some settings replaced.

    Args:
        config: Stays as it is.
        values: By dotted path (``robustness.attacks``); None for a setting's default.
        overrides: As of ``load``.

    Raises:
        UserError: As ``load``.
    """
    document = config.to_document()
    for key, value in values.items():
        *parents, last = key.split(".")
        section = document
        for parent in parents:
            section = section[parent]
        section.pop(last, None)
        if value is not None:
            section[last] = value
    for override in overrides:
        _override(document, override)
    return parse(document)


def parse_value(option: str, text: str) -> Any:
    """The value of an option that is written in YAML.

    Raises:
        UserError: It does not parse.
    """
    return _parse_yaml(text, option)


def parse(document: Mapping[str, Any]) -> SweepConfig:
    """Checks a configuration that is already a mapping.

    Raises:
        UserError: With one line on the first mistake.
    """
    try:
        # As JSON, because strict validation takes a list for a tuple and a mapping for a dataclass only there.
        return SweepConfig.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise UserError(_one_line(error)) from None


def _parse_yaml(text: str, source: str) -> Any:
    try:
        # YAML 1.2: `no` is a word and 1e-3 a number; a key that stands twice is an error; nothing is ever executed.
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise UserError(f"{source} must be valid YAML, got an error{where}: {problem}; correct that line") from None


def _override(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise UserError(f"--set must be KEY=VALUE, got {override}; write for example --set search.trials=6")
    *parents, last = key.strip().split(".")
    section: Any = document
    for parent in parents:
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if section is None:
            break
    if not isinstance(section, dict):
        raise UserError(f"--set {key} must name a setting inside a section, got {override}; check the path")
    section[last] = _parse_yaml(text, f"--set {key}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"name must be letters, digits, '.', '_' or '-' (it names a folder), got {name!r}; try quickstart-2"
        )
    for suffix, what in ((BASELINES_SUFFIX, "the baselines"), (REPLICATES_SUFFIX, "further replicates")):
        if name.endswith(suffix):
            raise ValueError(f"name must not end in {suffix} (kept for {what}), got {name}; choose another")


def _grid_points(ranges: Mapping[str, Range], counts: Mapping[str, int]) -> list[dict[str, float]]:
    """The exact grid, last parameter fastest; an open lower end is left out and the points stay evenly spaced."""
    points: list[dict[str, float]] = [{}]
    for name, range_ in ranges.items():
        count = counts[name]
        steps = count if range_.low_exclusive else count - 1
        first = 1 if range_.low_exclusive else 0
        values = [
            range_.high if index == steps else range_.low + (range_.high - range_.low) * index / steps
            for index in range(first, steps + 1)
        ]
        points = [{**point, name: value} for point in points for value in values]
    return points


_WANTED: Final = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "text",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a mapping of settings",
    "dataclass_type": "a mapping of settings",
}


def _one_line(error: ValidationError) -> str:
    """The first mistake as "<path> must <rule>, got <value>; <remedy>"."""
    mistakes = error.errors(include_url=False)
    # A key that nobody knows explains most other mistakes (a required one is missing because it is misspelt).
    # Of something that may be a number or a list of them, the list's mistakes are the nearer ones.
    mistakes.sort(
        key=lambda mistake: (
            mistake["type"] not in ("extra_forbidden", "unexpected_keyword_argument"),
            "float" in mistake["loc"] and isinstance(mistake["input"], list),
        )
    )
    mistake = mistakes[0]
    path = _path(mistake["loc"])
    value, kind, context = mistake["input"], mistake["type"], mistake.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(mistake["loc"][:-1])
        return f"{path} must be a known setting, got {_short(value)}; {nearest(str(mistake['loc'][-1]), known)}"
    if kind == "value_error":
        message = str(context["error"])
        return f"{path}.{message}" if path else message
    if kind == "missing":
        return f"{path} must be given, got nothing; add it to the configuration"
    if kind == "literal_error":
        choices = tuple(re.findall(r"'([^']+)'", context["expected"]))
        return f"{path} must be one of {', '.join(choices)}, got {_short(value)}; {nearest(str(value), choices)}"
    if kind in _WANTED:
        return f"{path} must be {_WANTED[kind]}, got {_short(value)} ({type(value).__name__}); correct its type"
    bounds = {
        "greater_than_equal": "at least",
        "less_than": "below",
        "greater_than": "above",
        "less_than_equal": "at most",
    }
    if kind in bounds:
        limit = next(iter(context.values()))
        return f"{path} must be {bounds[kind]} {limit:g}, got {_short(value)}; choose a value in the range"
    return f"{path} must be valid ({mistake['msg']}), got {_short(value)}; correct it"


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for part in location:
        if part == "float" or str(part).startswith("tuple["):  # which of several types was tried
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """The legal keys of the section at ``location``."""
    kind: Any = SweepConfig
    for part in location:
        fields = _fields(kind)
        kind = fields.get(str(part), kind) if fields else kind
        kind = _section_type(kind)
    return list(_fields(kind))


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return get_type_hints(kind)
    return {}


def _section_type(kind: Any) -> Any:
    """The class inside ``list[...]``, ``dict[str, ...]``, ``tuple[..., ...]`` or ``... | None``."""
    if get_origin(kind) in (Union, UnionType, list, tuple, dict):
        candidates = [
            argument for argument in get_args(kind) if isinstance(argument, type) and argument not in (str, type(None))
        ]
        return candidates[0] if candidates else kind
    return kind


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
