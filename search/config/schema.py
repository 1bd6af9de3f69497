"""The sections of a sweep's configuration; ``configs/README.md`` explains every key.

The settings of a component stand beside the component (``trainables``); those of the search stand here. What must hold
between sections is in ``rules``, reading and writing files in ``loading``.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, model_validator
from pydantic_core import PydanticCustomError, core_schema
from ruamel.yaml import YAML

from search.config import rules
from search.config.objectives import ACCURACIES, Constraint
from search.config.space import SpaceDomain, canonical, typed
from search.config.urls import without_password
from trainables.attacks.pgd import PGD
from trainables.candidate import Candidate, baseline_at, baselines_of, candidate_of, resolve, values_of
from trainables.defences import Defence
from trainables.defences.none import NoDefence
from trainables.losses import Loss
from trainables.losses.i_sce import ISCE
from trainables.metrics import Direction, direction
from trainables.models import Model
from trainables.models.lenet5 import LeNet5
from trainables.settings import DataSettings, Problem, RobustnessSettings, Rungs, TrainSettings
from trainables.settings.space import Domain, Value


def _read_data(value: Any) -> DataSettings:
    if not isinstance(value, dict):
        raise PydanticCustomError("dataclass_type", "not a mapping")
    return DataSettings.from_document(value)


# In the section ``data``, the split's settings and the data set's own form one flat mapping. Pydantic would look into
# the class, and at the annotation of its data set, if it were left to make the schema.
_DATA_SCHEMA: Final = core_schema.no_info_plain_validator_function(
    _read_data, serialization=core_schema.plain_serializer_function_ser_schema(DataSettings.to_document)
)
DataField = Annotated[DataSettings, GetPydanticSchema(lambda _, __: _DATA_SCHEMA)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PlateauConfig(_Section):
    """A front that no longer grows: the last ``trials`` settings gained less than ``relative`` of the hypervolume."""

    trials: int = Field(default=10, ge=1)
    relative: float = Field(default=0.001, ge=0.0)


class StopConfig(_Section):
    """What ends a search before its budget is spent. Running units, baselines and further seeds are still finished.

    Device-hours are those of all units, baselines included, times what each holds (``devices_per_trial``).
    """

    hours: float | None = Field(default=None, gt=0.0)
    device_hours: float | None = Field(default=None, gt=0.0)
    plateau: PlateauConfig | None = None


class AuditConfig(_Section):
    """The audit of the Pareto-optimal settings and the baselines at the end of a sweep.

    Settings drawn at ``random`` are audited too: the contenders alone cannot show whether the sweep's own attacks rank
    settings as the audits do. The first ``seeds`` of each setting are audited; if None, all of them, or two of the
    confirming ones in a sweep that confirms.
    """

    profile: Literal["quick", "reference"] = "quick"
    minutes: float = Field(default=5.0, gt=0.0)
    random: int = Field(default=0, ge=0)
    seeds: int | None = Field(default=None, ge=1)
    cpus: int | None = Field(default=None, ge=1)
    gpus: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)


class HalvingConfig(_Section):
    """Early stopping: at each rung about one of ``reduction_factor`` settings continues, judged by all objectives.

    Robust accuracy at a rung is an estimate: PGD on cross entropy, in the first of ``robustness.views``.
    """

    first_epoch: int | None = Field(default=None, ge=1)
    reduction_factor: float = Field(default=3.0, gt=1, allow_inf_nan=False)
    steps: int = Field(default=10, ge=1)
    images: int = Field(default=200, ge=1)

    def first_rung(self, epochs: int) -> int:
        """The first rung: as configured, or a ninth of ``epochs``, as later curves cross less often."""
        return self.first_epoch or max(1, round(epochs / 9))


def rungs_of(epochs: int, first: int, reduction_factor: float) -> tuple[int, ...]:
    """The epochs after which trials are compared, ascending; none where ``first`` is not below ``epochs``.

    They are geometric and rounded, so that each rung takes about as much work. The end of the training is no rung:
    there is nothing left to save.

    Source:
        Li et al. 2020, section 3.1: r * eta^k.
    """
    count = max(0, math.ceil(math.log(epochs / first, reduction_factor))) + 1
    rungs = {round(first * reduction_factor**k) for k in range(count)}
    return tuple(sorted(rung for rung in rungs if rung < epochs))


class SearchConfig(_Section):
    """How settings are chosen."""

    sampler: str = "nehvi"
    trials: int | None = Field(default=None, ge=1)
    baselines: bool = True
    seed: int = Field(default=0, ge=0, lt=2**32)
    concurrency: int | None = Field(default=None, ge=1)
    enqueue: list[dict[str, Value]] = Field(default_factory=list)
    warm_start: list[str] = Field(default_factory=list)
    warm_start_force: bool = False
    grid: dict[str, int] = Field(default_factory=dict)
    stop: StopConfig = Field(default_factory=StopConfig)
    halving: HalvingConfig | None = None
    racing: bool = False
    confirmation_seeds: int = Field(default=0, ge=0)
    most_confirmed: int | None = Field(default=None, ge=1)
    smallest_effect: dict[str, float] = Field(default_factory=dict)


class ResourcesConfig(_Section):
    """What one trial occupies, and how many failed units are replaced before the sweep gives up."""

    cpus_per_trial: int = Field(default=1, ge=1)
    gpus_per_trial: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    max_failures: int = Field(default=3, ge=0)

    @property
    def devices_per_trial(self) -> float:
        """GPUs of a trial, or its processors if it has no GPU: what device-hours count."""
        return self.gpus_per_trial or float(self.cpus_per_trial)


class TrackingConfig(_Section):
    """MLflow: the tracking URI (None for a SQLite file in the runs folder) and the experiment.

    Sweeps with the same ``parent`` are child runs of one run of that name.
    """

    uri: str | None = None
    experiment: str = Field(default="robustfront", min_length=1)
    parent: str | None = Field(default=None, pattern=r"[^']+")


class StorageConfig(_Section):
    """Optuna's storage, the ledger: any SQLAlchemy URL; None for ``study.db`` in the run's folder."""

    url: str | None = None


class SweepConfig(_Section):
    """A whole sweep, checked."""

    name: str
    data: DataField = Field(default_factory=DataSettings)
    model: Model = Field(default_factory=LeNet5)
    loss: Loss = Field(default_factory=ISCE)
    defence: Defence = Field(default_factory=NoDefence)
    train: TrainSettings = Field(default_factory=TrainSettings)
    space: dict[str, SpaceDomain] = Field(default_factory=dict)
    objectives: dict[str, Direction] = Field(default_factory=lambda: {name: direction(name) for name in ACCURACIES})
    constraints: dict[str, str] = Field(default_factory=dict)
    robustness: RobustnessSettings = Field(default_factory=RobustnessSettings)
    search: SearchConfig = Field(default_factory=SearchConfig)
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    storage: StorageConfig = Field(default_factory=StorageConfig)
    audit: AuditConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        rules.check(self)
        return self

    @property
    def problem(self) -> Problem:
        """What all trials share."""
        return Problem(
            data=self.data,
            model=self.model,
            loss=self.loss,
            defence=self.defence,
            train=self.train,
            robustness=self.robustness,
        )

    @property
    def rungs(self) -> Rungs | None:
        """When and how settings are compared during training; None without halving."""
        halving = self.search.halving
        if halving is None:
            return None
        return Rungs(
            epochs=rungs_of(self.train.epochs, halving.first_rung(self.train.epochs), halving.reduction_factor),
            robustness=replace(
                self.robustness,
                attacks=(PGD(steps=halving.steps),),
                epsilon=self.robustness.epsilons[0],
                views=self.robustness.views[:1],
                images=halving.images,
            ),
        )

    @property
    def audit_resources(self) -> tuple[int, float]:
        """Processors and GPUs per audit; those of a trial unless the configuration says otherwise."""
        audit, resources = self.audit or AuditConfig(), self.resources
        cpus = resources.cpus_per_trial if audit.cpus is None else audit.cpus
        return cpus, resources.gpus_per_trial if audit.gpus is None else audit.gpus

    @property
    def bounds(self) -> tuple[Constraint, ...]:
        """The parsed constraints."""
        return tuple(Constraint.parse(name, text) for name, text in self.constraints.items())

    @property
    def domains(self) -> dict[str, Domain]:
        """Where the search looks for each parameter, the loss's declared ones first."""
        values = values_of(self.problem)
        return {canonical(name): typed(domain, values.get(canonical(name))) for name, domain in self.space.items()}

    @property
    def baselines(self) -> tuple[Candidate, ...]:
        """The reference settings B0, B1, ... that are trained beside the search; none without ``search.baselines``."""
        return baselines_of(self.problem) if self.search.baselines else ()

    def baselines_for(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The baselines that a setting is compared with: they share its values of all but the loss's parameters.

        Values that are the problem's own are left out, so that one training has one name: at those alone, they are
        ``baselines``.
        """
        own = values_of(self.problem)
        parameters = {path: value for path, value in candidate.parameters.items() if own.get(path) != value}
        tuned = replace(candidate, parameters=parameters)
        return tuple(baseline_at(baseline, tuned) for baseline in self.baselines)

    @property
    def fixed_settings(self) -> list[dict[str, Value]]:
        """Settings whose values no sampler chooses, in order: the authors' own, the enqueued, the grid's points."""
        domains = self.domains
        values = values_of(self.problem) | self.loss.reference
        reference = {name: values[name] for name in domains if name in values}
        usual = reference.keys() == domains.keys() and all(domains[name].contains(reference[name]) for name in domains)
        settings = [reference] if usual else []
        settings += [{name: setting[name] for name in domains} for setting in self.enqueued]
        if self.search.sampler == "grid":
            grids = [domain.grid(self.search.grid.get(name, 0)) for name, domain in domains.items()]
            settings += [dict(zip(domains, point, strict=True)) for point in itertools.product(*grids)]
        return [setting for index, setting in enumerate(settings) if setting not in settings[:index]]

    def candidate(self, parameters: Mapping[str, Value]) -> Candidate:
        """The setting with these values, by any of the parameters' names; a ``ValueError`` says if it is not legal."""
        values = self._typed(parameters)
        candidate = candidate_of(self.problem, values)
        resolve(self.problem, candidate)
        for name in self.domains:
            if name not in values:
                raise ValueError(f"{name} must be given, got nothing; add a value for it")
        return candidate

    @property
    def enqueued(self) -> list[dict[str, Value]]:
        """``search.enqueue`` by the parameters' canonical names, each value of its parameter's type."""
        return [self._typed(setting) for setting in self.search.enqueue]

    def _typed(self, setting: Mapping[str, Value]) -> dict[str, Value]:
        domains = self.domains
        values = {canonical(name): value for name, value in setting.items()}
        return {name: domains[name].cast(value) if name in domains else value for name, value in values.items()}

    @property
    def budget(self) -> int:
        """Units (a setting trained with one seed) to finish, baselines not counted."""
        return self.search.trials or len(self.fixed_settings) * self.train.replicates

    def to_yaml(self) -> str:
        """The resolved configuration. ``load`` reads it back to an equal one, except for passwords in its URLs.

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
        # A value that is written would be fixed when it is read back.
        document["loss"] = {name: value for name, value in document["loss"].items() if name not in self.domains}
        return document


def available_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
