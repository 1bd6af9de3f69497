"""Numeric fields of attacks, with the limits that their values are checked against."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

_CHECK: Final = "check"


def count(default: int, least: int = 1) -> Any:
    """A dataclass field for a whole number of at least ``least``."""

    def check(name: str, value: int) -> None:
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}; give a larger number")

    return dataclasses.field(default=default, metadata={_CHECK: check})


def positive(default: float, most: float = math.inf) -> Any:
    """A dataclass field for a finite number in (0, ``most``]."""

    def check(name: str, value: float) -> None:
        if not (0 < value <= most and math.isfinite(value)):
            limit = f"in (0, {most:g}]" if math.isfinite(most) else "above 0"
            raise ValueError(f"{name} must be {limit}, got {value:g}; leave it out for {default:g}")

    return dataclasses.field(default=default, metadata={_CHECK: check})


def check_limits(attack: Any) -> None:
    """Checks every field declared with `count` or `positive`.

    Raises:
        ValueError: A value is outside its limits.
    """
    for field in dataclasses.fields(attack):
        if _CHECK in field.metadata:
            field.metadata[_CHECK](field.name, getattr(attack, field.name))
