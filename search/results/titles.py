"""Titles of axes and columns, without rich."""

from __future__ import annotations

from trainables.settings import RobustnessSettings


def radius_title(robustness: RobustnessSettings) -> str:
    """What an epsilon is, e.g. ``L2 epsilon (rms)``."""
    norm = {"l2": "L2", "linf": "L\N{INFINITY}"}[robustness.norm]
    unit = " (rms)" if robustness.eps_convention == "rms" else ""
    return f"{norm} \N{GREEK SMALL LETTER EPSILON}{unit}"
