"""Declarations of the paper's figures and tables, and the sweeps that they need.

A file in ``configs/experiments`` declares one figure or table: its networks, its attacks, the paper's numbers, and the
paper's claims. A file in ``configs/experiments/pools`` declares networks that several experiments share. The sweeps of
a pool use the attacks and radii of all experiments, so that its networks are trained and attacked only once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from search.config.loading import merged, one_line, override_in, parse, read_document
from search.config.schema import SweepConfig
from search.errors import UserError
from trainables.attacks import Attack
from trainables.registry import make
from trainables.settings.checks import nearest
from trainables.settings.space import Value
from trainables.settings.threat import View

EXPERIMENTS_DIR: Final = Path("configs/experiments")
RESULTS: Final = "results"  # the folder of the tables, inside the experiments' folder
ALL: Final = "all"
_POOLS: Final = "pools"
_DIGITS: Final = 6  # of a radius, so that equal radii in both conventions are equal

Profile = Literal["quick", "paper"]
Form = Literal["bars", "table", "surfaces", "curves", "embedding", "condition"]
Kind = Literal["above", "comparable", "peak", "spread", "level"]
WORST: Final = "worst"  # the worst case of the sound evaluation, in place of an attack's label
# Measures of networks that need no attack, by the form that draws them.
MEASURES: Final[Mapping[Form, tuple[str, ...]]] = {
    "embedding": ("silhouette", "angular_silhouette"),
    "condition": ("f_true", "others", "condition"),
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Radii(_Section):
    """L2 radii: plain ones (``l2``), and root mean squares (``rms``), i.e. radius / sqrt(numbers per image)."""

    l2: list[float] = Field(default_factory=list)
    rms: list[float] = Field(default_factory=list)

    def in_l2(self, values: int) -> list[float]:
        """All radii as plain ones, ascending, for images of ``values`` numbers."""
        radii = [*self.l2, *(radius * math.sqrt(values) for radius in self.rms)]
        return sorted({round(radius, _DIGITS) for radius in radii})


class Radius(_Section):
    """One radius, in either convention."""

    l2: float | None = None
    rms: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.l2 is None) == (self.rms is None):
            raise ValueError("must be one radius, got both or none; write {rms: 0.02} or {l2: 1.5}")
        return self

    def in_l2(self, values: int) -> float:
        radii = Radii(l2=[] if self.l2 is None else [self.l2], rms=[] if self.rms is None else [self.rms])
        return radii.in_l2(values)[0]


class Panel(_Section):
    """One panel of a figure: the pool of each profile, the methods, the attacks and the radii."""

    quick: str
    paper: str
    methods: list[str] = Field(min_length=1)
    attacks: list[dict[str, Any]] = Field(default_factory=list)
    radii: Radii = Radii()

    @cached_property
    def attack_labels(self) -> list[str]:
        return [attack_of(document).description for document in self.attacks]

    def pool(self, profile: Profile) -> str:
        return self.quick if profile == "quick" else self.paper


class Selection(_Section):
    """A method's settings: all of them, or those with the values in ``where``."""

    method: str
    where: dict[str, float] = Field(default_factory=dict)


class Claim(_Section):
    """A claim of the paper, and how it is decided.

    ``above``: the first is better than each of the others by more than ``margin``. ``comparable``: it differs from each
    by less than ``margin``. ``peak``: the best setting between the ends is better than the setting with the largest
    value by more than ``margin``. ``spread``: the best setting is better than the worst by more than ``margin``.
    ``level``: the first's ``measure`` exceeds ``margin``.
    """

    name: str = Field(pattern=r"[a-z0-9-]+")
    says: str
    panel: str
    kind: Kind = "above"
    first: Selection
    others: list[Selection] = Field(default_factory=list)
    attack: str | None = None  # its label; None for clean accuracy, or for ``measure``
    at: Radius | None = None
    measure: str | None = None
    margin: float = Field(default=0.02, ge=0.0)
    paper: dict[str, float] = Field(default_factory=dict)  # the differences in the paper's text, by the other method

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.attack is None) != (self.at is None):
            raise ValueError("at must be given if and only if attack is given; add it or remove it")
        if bool(self.others) != (self.kind in ("above", "comparable")):
            raise ValueError(
                f"others must be given only for above and comparable, and always for these, got {self.kind}; correct it"
            )
        return self


class Printed(_Section):
    """Accuracies printed in the paper, as fractions by method, for one panel and attack (None: clean images)."""

    panel: str
    attack: str | None = None
    at: Radius | None = None
    values: dict[str, float]


class Experiment(_Section):
    """One figure or table of the paper."""

    title: str
    shows: str
    form: Form
    panels: dict[str, Panel] = Field(min_length=1)
    claims: list[Claim] = Field(min_length=1)
    printed: list[Printed] = Field(default_factory=list)
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for section in ("claims", "printed"):
            for position, entry in enumerate(getattr(self, section)):
                try:
                    self._check_entry(entry)
                except ValueError as error:
                    raise ValueError(f"{section}[{position}].{error}") from None
        return self

    def _check_entry(self, entry: Claim | Printed) -> None:
        if entry.panel not in self.panels:
            raise ValueError(
                f"panel must be one of the panels, got {entry.panel}; {nearest(entry.panel, list(self.panels))}"
            )
        panel = self.panels[entry.panel]
        if entry.attack is not None and entry.attack not in (*panel.attack_labels, WORST):
            known = ", ".join((*panel.attack_labels, WORST))
            raise ValueError(f"attack must be one of the panel's ({known}), got {entry.attack}; correct it")
        if isinstance(entry, Claim) and entry.measure is not None and entry.measure not in MEASURES.get(self.form, ()):
            known = ", ".join(MEASURES.get(self.form, ())) or "none"
            raise ValueError(f"measure must be one of the form's ({known}), got {entry.measure}; correct it")
        if isinstance(entry, Claim):
            methods = [entry.first.method, *(other.method for other in entry.others), *entry.paper]
        else:
            methods = list(entry.values)
        for method in methods:
            if method not in panel.methods:
                raise ValueError(f"method must be one of the panel's, got {method}; {nearest(method, panel.methods)}")


class Member(_Section):
    """One method of a pool: its file in ``configs/methods``, changes to it, and the logits used for decisions."""

    method: str
    title: str
    view: View = "raw"
    set: dict[str, Any] = Field(default_factory=dict)


class Pool(_Section):
    """Networks that are trained once, by one ordinary sweep per member.

    The attacks in ``sweep`` are those of the sound evaluation. They see images that survive the experiments' attacks.
    """

    about: str
    values: int = Field(ge=1)  # numbers per image
    sweep: dict[str, Any]
    members: dict[str, Member] = Field(min_length=1)


_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Library:
    """All experiments and pools of a folder."""

    folder: Path
    experiments: Mapping[str, Experiment]
    pools: Mapping[str, Pool]

    @classmethod
    def read(cls, folder: Path) -> Library:
        """Reads a folder. Raises ``UserError`` with the first mistake."""
        experiments = {path.stem: _read(path, Experiment) for path in _in_order(folder.glob("*.yaml"))}
        if not experiments:
            raise UserError(
                f"{folder} must be a folder of experiments, got no YAML file there; run this in the repository's folder"
            )
        pools = {path.stem: _read(path, Pool) for path in sorted((folder / _POOLS).glob("*.yaml"))}
        library = cls(folder, experiments, pools)
        for name, experiment in experiments.items():
            for title, panel in experiment.panels.items():
                library._check(f"{folder / name}.yaml: panels.{title}", panel)
        return library

    def _check(self, where: str, panel: Panel) -> None:
        for pool in (panel.quick, panel.paper):
            if pool not in self.pools:
                raise UserError(f"{where} must name pools, got {pool}; {nearest(pool, list(self.pools))}")
            members = self.pools[pool].members
            for method in panel.methods:
                if method not in members:
                    known = nearest(method, list(members))
                    raise UserError(f"{where}.methods must be members of the pool {pool}, got {method}; {known}")

    def chosen(self, name: str) -> list[str]:
        """The experiments that ``NAME`` on the command line selects."""
        if name == ALL:
            return list(self.experiments)
        if name not in self.experiments:
            remedy = nearest(name, [*self.experiments, ALL])
            raise UserError(f"NAME must be one of {', '.join(self.experiments)} or {ALL}, got {name}; {remedy}")
        return [name]

    def needed(self, names: Sequence[str], profile: Profile) -> dict[str, list[str]]:
        """The members that experiments need, by pool, in the pool's order and without duplicates."""
        panels = [panel for name in names for panel in self.experiments[name].panels.values()]
        pools = dict.fromkeys(panel.pool(profile) for panel in panels)
        used = {pool: {m for panel in panels if panel.pool(profile) == pool for m in panel.methods} for pool in pools}
        return {pool: [m for m in self.pools[pool].members if m in used[pool]] for pool in pools}

    def sweep(
        self, pool_name: str, member_name: str, profile: Profile, name: str, overrides: Sequence[str] = ()
    ) -> SweepConfig:
        """The sweep of a pool's member, with the attacks and radii of all experiments that use the pool."""
        pool = self.pools[pool_name]
        member = pool.members[member_name]
        path = self.folder.parent / "methods" / f"{member.method}.yaml"
        method = read_document(
            path, f"{self.folder / _POOLS / pool_name}.yaml: members.{member_name}.method", base=False
        )
        document = merged(merged(pool.sweep, method), member.set)
        panels = [
            panel
            for experiment in self.experiments.values()
            for panel in experiment.panels.values()
            if panel.pool(profile) == pool_name
        ]
        robustness = dict(pool.sweep.get("robustness", {}))
        # Attacks on a randomised method average over the number of draws in the method's file.
        draws = max([1, *(each.get("eot", 1) for each in method.get("robustness", {}).get("attacks", []))])
        own = {
            attack_of(each).description: {**each, "views": [member.view]} for panel in panels for each in panel.attacks
        }
        # The sound attacks see only images that survive the paper's attacks, if there are any.
        sound = [{**each, "remaining": bool(own) or i > 0} for i, each in enumerate(robustness.get("attacks", []))]
        radii = {radius for panel in panels for radius in panel.radii.in_l2(pool.values)}
        first = robustness.get("epsilon", 1.5)
        document["robustness"] = {
            **robustness,
            "attacks": [{**each, "eot": draws} if draws > 1 else each for each in (*own.values(), *sound)],
            "epsilon": [first, *sorted(radii - {first})],
            "views": [member.view, "raw" if member.view == "normalized" else "normalized"],
        }
        document["tracking"] = {**document.get("tracking", {}), "parent": f"{name}-{pool_name}"}
        for override in overrides:
            override_in(document, override)
        document["name"] = f"{name}-{pool_name}-{member_name}"
        search = {"baselines": False, **document.get("search", {})}
        if search.get("sampler") != "grid":  # only the reference setting
            search["trials"] = document.get("train", {}).get("replicates", 1)
        document["search"] = search
        try:
            return parse(document)
        except UserError as error:
            raise UserError(f"{self.folder / _POOLS / pool_name}.yaml, {member_name}: {error}") from None


def attack_of(document: Mapping[str, Any]) -> Attack:
    """Makes an attack from its settings. Raises ``ValueError`` if they are invalid."""
    given = dict(document)
    attack: Attack = make("attack", given.pop("name", ""), given)
    return attack


def _read(path: Path, model: type[_Model]) -> _Model:
    document = read_document(path, "experiment")
    try:
        return model.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error, model)}") from None


def _in_order(paths: Any) -> list[Path]:
    """Figures before tables, each by number."""
    return sorted(paths, key=lambda path: (path.stem.partition("-")[0], len(path.stem), path.stem))


def values_text(parameters: Mapping[str, Value]) -> str:
    """A setting's values as written in a table: ``s=1, m=0.1``."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in parameters.items()
    )
