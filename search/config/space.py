"""The search's space: which parameters are searched, and where each one's values lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, get_type_hints

from pydantic import PlainSerializer, PlainValidator

from trainables.candidate import candidate_of, parameters_of, resolve, values_of
from trainables.losses.i_sce import ISCE
from trainables.registry import check_type, parse
from trainables.settings import Problem
from trainables.settings.checks import nearest
from trainables.settings.space import Choices, Domain, Range, Value

LOSS_PREFIX: Final = "loss."
_RANGE_KEYS: Final = get_type_hints(Range)
_CHOICES_KEY: Final = "choices"


def canonical(name: str) -> str:
    """The one name of a parameter: a loss's own is bare (``s``), others name their section (``train.epochs``)."""
    return name.removeprefix(LOSS_PREFIX)


def parse_domain(value: Any) -> Domain:
    """A domain from its YAML: a mapping of ``low``, ``high`` and ``Range``'s flags, or of ``choices``."""
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping, got {value}; write {{low: 1.0, high: 2.0}} or {{choices: [1, 2]}}")
    known = [_CHOICES_KEY] if _CHOICES_KEY in value else list(_RANGE_KEYS)
    for key, given in value.items():
        if key not in known:
            raise ValueError(f".{key} must be a known setting, got {given}; {nearest(str(key), known)}")
    try:
        return _choices(value[_CHOICES_KEY]) if _CHOICES_KEY in value else _range(value)
    except ValueError as error:
        raise ValueError(f".{error}") from None


def _range(values: Mapping[str, Any]) -> Range:
    for key, kind in _RANGE_KEYS.items():
        if key in values:
            check_type(key, values[key], kind)
        elif kind is float:
            raise ValueError(f"{key} must be given, got nothing; add it to the configuration")
    return Range(**values)


def _choices(values: Any) -> Choices:
    if not isinstance(values, list | tuple) or not all(isinstance(value, int | float | str | bool) for value in values):
        raise ValueError(f"choices must be a list of numbers, words or true and false, got {values}; correct it")
    return Choices(choices=tuple(values))


def domain_document(domain: Domain) -> dict[str, Any]:
    """A domain as a configuration writes it."""
    if isinstance(domain, Choices):
        return {_CHOICES_KEY: list(domain.choices)}
    return {key: value for key, value in vars(domain).items() if value is not False}


SpaceDomain = Annotated[Domain, PlainValidator(parse_domain), PlainSerializer(domain_document)]


def completed(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration's document whose space names everything that is searched.

    The loss's declared parameters are searched unless ``loss`` fixes them. Mistakes are left for the validation.
    """
    loss, space = document.get("loss", ISCE.name), document.get("space", {})
    try:
        declared = parse("loss", loss).domains
    except ValueError:
        return document
    if not isinstance(space, Mapping):
        return document
    fixed = set(loss) if isinstance(loss, Mapping) else set()
    given = {canonical(str(name)): (name, domain) for name, domain in space.items()}
    first = [given.get(name, (name, domain_document(domain))) for name, domain in declared.items() if name not in fixed]
    return {**document, "space": {**dict(first), **space}}


def typed(domain: Domain, value: Any) -> Domain:
    """A domain of its parameter's type, which the present value tells, if there is one.

    A ``ValueError`` says that an end is no whole number and must be one; it begins with the end's name.
    """
    if isinstance(domain, Range):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return replace(domain, integer=True) if whole else domain
    return Choices(choices=tuple(map(float, domain.choices))) if isinstance(value, float) else domain


def check_domain(problem: Problem, name: str, domain: Domain) -> None:
    """Asserts that a search tries nothing that is not legal, within a domain as it was written."""
    path, known = f"space.{name}", parameters_of(problem)
    limits, value = known.get(name), values_of(problem).get(name)
    if isinstance(domain, Range) and (isinstance(limits, Choices) or isinstance(value, str | bool)):
        raise ValueError(f"{path} must be choices, got {domain_document(domain)}; write {{choices: [...]}}")
    try:
        searched = typed(domain, value)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from None
    if isinstance(searched, Range) and isinstance(limits, Range):
        _check_limits(path, searched, limits)
    tried: list[tuple[str, Value, Value]] = []  # the key, the value as it was written, and as the search uses it
    if isinstance(domain, Range) and isinstance(searched, Range):
        tried = [("low", domain.low, searched.lowest), ("high", domain.high, searched.high)]
    elif isinstance(domain, Choices):
        tried = [(_CHOICES_KEY, choice, choice) for choice in domain.choices]
    for key, written, used in tried:
        if key == _CHOICES_KEY and limits is not None and not limits.contains(searched.cast(used)):
            raise ValueError(f"{path}.{key} must lie in {limits}, got {written}; remove it")
        try:
            resolve(problem, candidate_of(problem, {name: searched.cast(used)}))
        except ValueError as error:
            where, given = (f"{path}.{key}", written) if name in known else (path, domain_document(domain))
            rule, _, rest = str(error).removeprefix(name).partition(", got ")
            remedy = rest.partition("; ")[2] or "choose another value"
            if not rule.startswith(" must"):  # it names another setting, which does not go with this value
                raise ValueError(f"{where} must go with the other settings, got {given}: {error}") from None
            raise ValueError(f"{where}{rule}, got {given}; {remedy}") from None


def _check_limits(path: str, domain: Range, limits: Range) -> None:
    if domain.low < limits.low or domain.high > limits.high:
        raise ValueError(
            f"{path} must lie in {limits}, got low {domain.low:g} and high {domain.high:g}; narrow the range"
        )
    if not domain.within(limits):
        raise ValueError(
            f"{path}.low must be above {limits.low:g}, got {domain.low:g}; raise it or set low_exclusive: true"
        )
