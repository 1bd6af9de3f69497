"""The configuration of an imported run, and what it shares with that of a sweep.

``import.yaml`` stands in the run's folder in the place of ``sweep.yaml``. It has the sweep's keys ``name``,
``objectives`` and ``space``; its ``source`` says whose study it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML

from search.config.loading import one_line, read_document
from search.config.objectives import Constraint
from search.config.rules import check_name
from search.config.schema import SearchConfig
from search.config.space import SpaceDomain
from search.errors import UserError
from trainables.candidate import Candidate
from trainables.metrics import Direction
from trainables.settings.space import Domain


class StudyConfig(Protocol):
    """What results are worked out from: the part of a configuration that sweeps and imported runs share."""

    @property
    def name(self) -> str: ...

    @property
    def objectives(self) -> dict[str, Direction]: ...

    @property
    def constraints(self) -> dict[str, str]: ...

    @property
    def bounds(self) -> tuple[Constraint, ...]: ...

    @property
    def domains(self) -> dict[str, Domain]: ...

    @property
    def baselines(self) -> tuple[Candidate, ...]: ...

    @property
    def budget(self) -> int: ...

    @property
    def search(self) -> SearchConfig: ...

    def to_yaml(self) -> str: ...


class Source(BaseModel):
    """The study that a run was imported from. ``url`` has no password."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["optuna", "mlflow"]
    url: str
    study: str  # the name of the Optuna study or MLflow experiment

    @property
    def title(self) -> str:
        """The source as text, e.g. ``Optuna study theirs``."""
        return f"{'Optuna study' if self.kind == 'optuna' else 'MLflow experiment'} {self.study}"


class ImportConfig(BaseModel):
    """An imported run. It has no constraints, baselines or budget."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    source: Source
    objectives: dict[str, Direction]
    space: dict[str, SpaceDomain]
    smallest_effect: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_name(self.name)
        for name, effect in self.smallest_effect.items():
            if name not in self.objectives or not effect > 0:
                known = ", ".join(self.objectives)
                raise ValueError(
                    f"smallest_effect must be above 0 for one of {known}, got {name}: {effect}; correct it"
                )
        return self

    @property
    def domains(self) -> dict[str, Domain]:
        """The searched parameters that every complete trial has."""
        return dict(self.space)

    @property
    def constraints(self) -> dict[str, str]:
        return {}

    @property
    def bounds(self) -> tuple[Constraint, ...]:
        return ()

    @property
    def baselines(self) -> tuple[Candidate, ...]:
        return ()

    @property
    def budget(self) -> int:
        return 0

    @property
    def search(self) -> SearchConfig:
        """That of a search that confirms nothing."""
        return SearchConfig(smallest_effect=self.smallest_effect)

    def to_yaml(self) -> str:
        """The content of ``import.yaml``."""
        stream = StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(self.model_dump(mode="json"), stream)
        return stream.getvalue()


def parse_import(document: Mapping[str, Any]) -> ImportConfig:
    """Checks the configuration of an imported run; a ``UserError`` names the first mistake."""
    try:
        return ImportConfig.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise UserError(one_line(error, ImportConfig)) from None


def load_import(path: Path) -> ImportConfig:
    """Reads an ``import.yaml``."""
    return parse_import(read_document(path, "config"))
