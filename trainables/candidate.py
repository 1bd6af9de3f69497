"""A candidate: a loss, a defence and values of parameters, and what they make of a problem.

A parameter's path is its bare name if it is the loss's own (``s``). Others are dotted: ``defence.epsilon``,
``model.width``, ``train.learning_rate``, ``train.optimizer.weight_decay``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from trainables.defences.none import NoDefence
from trainables.registry import Component, Kind, make
from trainables.settings import Problem, TrainSettings
from trainables.settings.checks import nearest
from trainables.settings.space import Domain, Value

# The seed is the unit's, and rungs and budgets count the same epochs for every candidate.
_FIXED: Final = ("epochs", "seed", "replicates", "optimizer")
_TRAIN: Final = tuple(item.name for item in fields(TrainSettings) if item.name not in _FIXED)
_SEPARATOR: Final = "."


@dataclass(frozen=True)
class Candidate:
    """A point of the search space. ``resolve`` checks it."""

    loss: str  # its name
    parameters: Mapping[str, Value] = field(default_factory=dict)  # by path; all others are the problem's
    defence: str = NoDefence.name

    def __str__(self) -> str:
        values = ", ".join(f"{name}={_shown(value)}" for name, value in self.parameters.items())
        defence = "" if self.defence == NoDefence.name else f" + {self.defence}"
        return f"{self.loss}{defence}" + (f"({values})" if values else "")


def candidate_of(problem: Problem, parameters: Mapping[str, Value]) -> Candidate:
    """The candidate with the problem's own loss and defence, and these values."""
    return Candidate(problem.loss.name, parameters, problem.defence.name)


def parameters_of(problem: Problem) -> dict[str, Domain | None]:
    """What a search over a problem may vary, by path, the loss's own parameters first.

    Returns:
        The declared domains; None where every value of the right type is legal that the component itself accepts.
    """
    parameters = {
        _path(prefix, name): component.domains.get(name)
        for prefix, component in _components(problem).items()
        for name in component.parameters
    }
    return parameters | dict.fromkeys(_path("train", name) for name in _TRAIN)


def values_of(problem: Problem) -> dict[str, Any]:
    """The problem's own value of everything that a search may vary and that has one, by path."""
    values = {
        _path(prefix, name): value
        for prefix, component in _components(problem).items()
        for name, value in component.values.items()
        if value is not None
    }
    return values | {_path("train", name): getattr(problem.train, name) for name in _TRAIN}


def resolve(problem: Problem, candidate: Candidate) -> Problem:
    """The problem with a candidate's loss, defence and values.

    If the candidate's loss (or defence) is another than the problem's, it starts from that loss's own defaults.

    Raises:
        ValueError: There is no such loss, defence or parameter, or a value is not legal. The message starts with the
            parameter's path.
    """
    if candidate.loss != problem.loss.name:
        problem = replace(problem, loss=_named("loss", candidate.loss))
    if candidate.defence != problem.defence.name:
        problem = replace(problem, defence=_named("defence", candidate.defence))
    known, components = parameters_of(problem), _components(problem)
    names = ", ".join(problem.loss.parameters) or "it has none"
    by_component: dict[str, dict[str, Value]] = {}
    for path, value in candidate.parameters.items():
        prefix, _, name = path.rpartition(_SEPARATOR)
        if path not in known and not (prefix in components and components[prefix].takes_anything):
            owner = "the problem" if prefix else f"the loss {problem.loss.name} ({names})"
            raise ValueError(f"{path} must be a parameter of {owner}, got {value}; {nearest(path, [*known])}")
        by_component.setdefault(prefix, {})[name] = value
    for prefix, values in by_component.items():
        try:
            problem = _with_values(problem, prefix, values)
        except ValueError as error:
            raise ValueError(_path(prefix, str(error))) from None
    return problem


def baselines_of(problem: Problem) -> tuple[Candidate, ...]:
    """The baselines of the problem's loss: they replace the loss, and leave everything else as in the problem.

    If the loss is its own baseline, the defence is the method, and the baseline is the problem without it.
    """
    return tuple(
        Candidate(
            baseline.loss,
            baseline.parameters,
            NoDefence.name if baseline.loss == problem.loss.name and not baseline.parameters else problem.defence.name,
        )
        for baseline in problem.loss.baselines
    )


def baseline_at(baseline: Candidate, candidate: Candidate) -> Candidate:
    """A baseline at a candidate's values of all that is not the loss's, so that a tuned method meets a tuned baseline.

    These are values such as learning rate, width and radius of adversarial training; a baseline without the
    candidate's defence takes none of the defence's.
    """
    others = {path: value for path, value in candidate.parameters.items() if _SEPARATOR in path}
    if baseline.defence != candidate.defence:
        others = {path: value for path, value in others.items() if path.partition(_SEPARATOR)[0] != "defence"}
    return Candidate(baseline.loss, {**baseline.parameters, **others}, baseline.defence)


def _components(problem: Problem) -> dict[str, Component]:
    """The components whose settings a search may vary, by the prefix of their paths."""
    return {
        "": problem.loss,
        "defence": problem.defence,
        "model": problem.model,
        "train.optimizer": problem.train.optimizer,
    }


def _with_values(problem: Problem, prefix: str, values: Mapping[str, Any]) -> Problem:
    if prefix == "train":
        return replace(problem, train=replace(problem.train, **values))
    if prefix == "train.optimizer":
        return replace(problem, train=replace(problem.train, optimizer=problem.train.optimizer.with_values(values)))
    name = prefix or "loss"
    return replace(problem, **{name: getattr(problem, name).with_values(values)})


def _named(kind: Kind, name: str) -> Any:
    try:
        return make(kind, name)
    except ValueError as error:
        raise ValueError(f"{kind}.{error}") from None


def _path(prefix: str, name: str) -> str:
    return f"{prefix}{_SEPARATOR}{name}" if prefix else name


def _shown(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
