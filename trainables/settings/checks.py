"""Checks that every kind of settings shares, and what they say."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any


def nearest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """A sentence's end that names the nearest of ``known``, or all of them when none is near."""
    matches = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {matches[0]}?" if matches else f"choose one of {', '.join(known)}"


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {_shown(known)}, got {value}; {nearest(str(value), known)}")


def _shown(known: tuple[str, ...]) -> str:
    most = 6
    return ", ".join(known[:most]) + (f", ... ({len(known)} in all)" if len(known) > most else "")


def check_seed(name: str, seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name} must be in [0, 2^32), got {seed}; choose another seed")
