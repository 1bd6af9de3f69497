"""Checks that every kind of settings shares, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
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


def check_counts(settings: Any, *names: str) -> None:
    """Asserts that each of these fields is at least 1, or None."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}; give a positive number")


def check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2^32), got {seed}; choose another seed")
