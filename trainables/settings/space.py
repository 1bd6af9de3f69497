"""The values that a searchable setting may take: a range of numbers, or a list of choices."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Final

Value = float | int | str | bool

_FP32_EPSILON, _FP32_TINY = 2.0**-23, 2.0**-126  # spacing at 1; the smallest number in full precision
_DOMAIN: Final = "domain"


@dataclass(frozen=True, kw_only=True)
class Range:
    """A range of numbers: [low, high], or (low, high] with ``low_exclusive``."""

    low: float
    high: float
    low_exclusive: bool = False  # whether a search must stay above ``low``; a baseline may sit on it
    log: bool = False  # whether a search spreads its values evenly over the logarithm
    integer: bool = False  # whether only whole numbers count

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"low and high must be finite, got {self}; give two numbers")
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got {self.low:g} and {self.high:g}; swap the two")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 with log: true, got {self.low:g}; raise it or remove log")
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError(f"low and high must be whole numbers, got {self}; round them")
        if self.lowest > self.high:
            raise ValueError(
                f"high must be above low where low_exclusive is true, got {self}; raise high or remove low_exclusive"
            )

    @property
    def lowest(self) -> float:
        """The smallest value to suggest: off an open end in single precision too, where losses compute."""
        if not self.low_exclusive:
            return self.low
        return self.low + (1 if self.integer else max(abs(self.low) * _FP32_EPSILON, _FP32_TINY))

    def contains(self, value: Value) -> bool:
        """Whether a search may try ``value``."""
        return self._is_number(value) and self.lowest <= float(value) <= self.high

    def allows(self, value: Value) -> bool:
        """Whether ``value`` is legal at all: as ``contains``, with an open lower end taken as closed."""
        return self._is_number(value) and self.low <= float(value) <= self.high

    @property
    def rule(self) -> str:
        """What a legal value must be, for messages."""
        return f"{'a whole number ' if self.integer else ''}in [{self.low:g}, {self.high:g}]"

    def cast(self, value: Value) -> Value:
        """A number as the range's type: a float, or an int of a range of whole numbers; another value as it is."""
        if not self._is_number(value):
            return value
        return int(value) if self.integer else float(value)

    def within(self, legal: Range) -> bool:
        """Whether every value to suggest is one that ``legal`` may suggest too."""
        return legal.lowest <= self.lowest and self.high <= legal.high

    def grid(self, points: int) -> list[float]:
        """``points`` values, evenly spaced, the upper end among them; an open lower end is left out.

        A range of whole numbers gives fewer where it has fewer.
        """
        steps = points if self.low_exclusive else points - 1
        positions = range(1 if self.low_exclusive else 0, steps + 1)
        values = [self._at(position / steps) if position < steps else self.high for position in positions]
        return list(dict.fromkeys(map(round, values))) if self.integer else values

    def _at(self, share: float) -> float:
        if self.log:
            return self.low * math.pow(self.high / self.low, share)
        return self.low + (self.high - self.low) * share

    def _is_number(self, value: Value) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return not self.integer or float(value).is_integer()

    def __str__(self) -> str:
        return f"{'(' if self.low_exclusive else '['}{self.low:g}, {self.high:g}]"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """A list of values without an order: at least one, and all different."""

    choices: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("choices must name at least one value, got []; write {choices: [1, 2]}")
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices must differ from each other, got {list(self.choices)}; remove one")

    def contains(self, value: Value) -> bool:
        """Whether a search may try ``value``."""
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    allows = contains

    @property
    def rule(self) -> str:
        """What a legal value must be, for messages."""
        return f"one of {self}"

    def cast(self, value: Value) -> Value:
        """The choice that equals ``value``, whatever its type; another value as it is."""
        return next((choice for choice in self.choices if choice == value), value)

    def grid(self, points: int) -> list[Value]:
        """All choices, whatever ``points`` is: they have no order to thin out."""
        del points
        return list(self.choices)

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self.choices)) + "}"


Domain = Range | Choices


def searched(default: Any, domain: Domain) -> Any:
    """A dataclass field that a search explores within ``domain``, which are its legal limits too.

    The default is the authors' own value: the reference setting.
    """
    return dataclasses.field(default=default, metadata={_DOMAIN: domain})


def domains(component: Any) -> dict[str, Domain]:
    """The ``searched`` fields of a dataclass (or of one of its instances) with their domains, in order."""
    return {field.name: field.metadata[_DOMAIN] for field in dataclasses.fields(component) if _DOMAIN in field.metadata}
