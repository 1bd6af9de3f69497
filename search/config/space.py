"""The search's space: which parameters are searched, and where each one's values lie."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator

from trainables.losses.i_sce import ISCE
from trainables.registry import parse
from trainables.settings.checks import nearest
from trainables.settings.space import Choices, Domain, Range, Value

LOSS_PREFIX: Final = "loss."
_RANGE_KEYS: Final = ("low", "high", "low_exclusive", "log", "integer")
_CHOICES_KEY: Final = "choices"


def canonical(name: str) -> str:
    """The one name of a parameter: a loss's own is bare (``s``), others name their section (``train.epochs``)."""
    return name.removeprefix(LOSS_PREFIX)


def parse_domain(value: Any) -> Domain:
    """A domain from its YAML: ``{low, high, log: true}``, ``{low, high, low_exclusive: true}`` or ``{choices: [...]}``.

    Raises:
        ValueError: It is neither, or leaves no value.
    """
    if isinstance(value, Range | Choices):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a mapping, got {value}; write {{low: 1.0, high: 2.0}} or {{choices: [1, 2]}}")
    known = (_CHOICES_KEY,) if _CHOICES_KEY in value else _RANGE_KEYS
    for key, given in value.items():
        if key not in known:
            raise ValueError(f".{key} must be a known setting, got {given}; {nearest(str(key), list(known))}")
    if _CHOICES_KEY in value:
        return _choices(value[_CHOICES_KEY])
    for key in ("low", "high"):
        if key not in value:
            raise ValueError(f".{key} must be given, got nothing; add it to the configuration")
        if isinstance(value[key], bool) or not isinstance(value[key], int | float):
            raise ValueError(f".{key} must be a number, got {value[key]}; correct its type")
    for key in ("low_exclusive", "log", "integer"):
        if not isinstance(value.get(key, False), bool):
            raise ValueError(f".{key} must be true or false, got {value[key]}; correct its type")
    try:
        return Range(**value)
    except ValueError as error:
        raise ValueError(f".{error}") from None


def _choices(values: Any) -> Choices:
    if not isinstance(values, list | tuple) or any(not isinstance(one, int | float | str | bool) for one in values):
        raise ValueError(f".choices must be a list of numbers, words or true and false, got {values}; correct it")
    try:
        return Choices(choices=tuple(values))
    except ValueError as error:
        raise ValueError(f".{error}") from None


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
    """A domain of the type that its parameter has.

    Args:
        domain: As it was written: ``{low: 1, high: 4}`` may be one of whole numbers or of any.
        value: The parameter's present value, which tells its type; None if there is none.

    Raises:
        ValueError: Whole numbers are needed and an end is none. The message begins with the end's name.
    """
    if isinstance(domain, Range):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return replace(domain, integer=True) if whole else domain
    return Choices(choices=tuple(map(float, domain.choices))) if isinstance(value, float) else domain


def domain_document(domain: Domain) -> dict[str, Any]:
    """A domain as a configuration writes it."""
    if isinstance(domain, Choices):
        return {_CHOICES_KEY: list(domain.choices)}
    flags = {key: True for key in ("low_exclusive", "log", "integer") if getattr(domain, key)}
    return {"low": domain.low, "high": domain.high, **flags}


SpaceDomain = Annotated[Domain, PlainValidator(parse_domain), PlainSerializer(domain_document)]


def check_domain(name: str, domain: Domain, legal: Domain | None, value: Any) -> None:
    """Asserts that a search tries nothing that is not legal.

    Args:
        name: The parameter's.
        domain: Where the search looks.
        legal: The component's own limits; None where it declares none.
        value: The parameter's present value; None if there is none.

    Raises:
        ValueError: The domain is of another kind than the parameter, or reaches beyond the limits.
    """
    path = f"space.{name}"
    if isinstance(domain, Choices):
        for choice in domain.choices:
            if legal is not None and not legal.contains(choice):
                raise ValueError(f"{path}.choices must lie in {legal}, got {choice}; remove it")
        return
    if isinstance(legal, Choices) or isinstance(value, str | bool):
        raise ValueError(f"{path} must be choices, got {domain}; write {{choices: [...]}}")
    if legal is None:
        return
    if domain.low < legal.low or domain.high > legal.high:
        raise ValueError(
            f"{path} must lie in {legal}, got low {domain.low:g} and high {domain.high:g}; narrow the range"
        )
    if not domain.within(legal):
        raise ValueError(
            f"{path}.low must be above {legal.low:g}, got {domain.low:g}; raise it or set low_exclusive: true"
        )


def grid_points(domains: Mapping[str, Domain], counts: Mapping[str, int]) -> list[dict[str, Value]]:
    """The exact grid, its last parameter fastest.

    Args:
        domains: Of each parameter.
        counts: Points of each range; of choices, all are taken.
    """
    values = [domain.grid(counts.get(name, 0)) for name, domain in domains.items()]
    return [dict(zip(domains, point, strict=True)) for point in itertools.product(*values)]
