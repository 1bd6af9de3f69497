"""Robust accuracy: which images survive every attack on every view and within every radius. `evaluate` needs torch."""

from trainables.robustness.outcomes import Outcomes

__all__ = ["Outcomes"]
