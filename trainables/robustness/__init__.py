"""Measuring robust accuracy: which images survive every attack on every view, within every radius.

`evaluate` attacks models and returns `Outcomes`, from which all accuracies are computed. `Outcomes` needs no torch;
``trainables.robustness.evaluate`` does and is therefore imported by its module.
"""

from trainables.robustness.outcomes import Outcomes

__all__ = ["Outcomes"]
