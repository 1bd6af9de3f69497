"""Checks that every kind of settings shares, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from difflib import get_close_matches
from typing import Any


def nearest(word: str, known: Sequence[str]) -> str:
    """A sentence's end that names the nearest of ``known``, or all of them when none is near."""
    if not known:
        return "there are none"
    matches = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {matches[0]}?" if matches else f"choose one of {', '.join(known)}"


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Asserts that a value is one of those known; the message lists at most six of them."""
    if value not in known:
        listed = ", ".join(known[:6]) + (f", ... ({len(known)} in all)" if len(known) > 6 else "")
        raise ValueError(f"{name} must be one of {listed}, got {value}; {nearest(str(value), known)}")


def count(default: int | None, least: int = 1) -> Any:
    """A dataclass field for a whole number of at least ``least``."""
    return field(default=default, metadata={"least": least})


def positive(default: float, most: float = math.inf) -> Any:
    """A dataclass field for a number in (0, ``most``]."""
    return field(default=default, metadata={"most": most})


def check_limits(name: str, value: Any, limits: Mapping[str, Any], default: Any) -> None:
    """Asserts what ``count`` or ``positive`` say of a field, whose metadata are ``limits``."""
    least, most = limits.get("least"), limits.get("most")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}; give a larger number")
    if most is not None and not 0 < value <= most:
        limit = f"in (0, {most:g}]" if math.isfinite(most) else "above 0"
        raise ValueError(f"{name} must be {limit}, got {value:g}; leave it out for {default:g}")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2^32), got {seed}; choose another seed")
