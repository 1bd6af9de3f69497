"""What can be asked of the training core, as plain dataclasses that are checked without importing torch.

The command line must refuse a bad value at once; importing torch takes seconds. Every message starts with the field's
name, so that a caller can put the path of the component before it (``robustness.epsilon must be ...``).
"""

from trainables.settings.checks import check_choice, check_seed, nearest
from trainables.settings.data import DataSettings
from trainables.settings.problem import Problem, Rungs
from trainables.settings.robustness import (
    AUDITED_IMAGES,
    RobustnessSettings,
)
from trainables.settings.threat import Norm, View
from trainables.settings.training import TrainSettings

__all__ = [
    "AUDITED_IMAGES",
    "DataSettings",
    "Norm",
    "Problem",
    "RobustnessSettings",
    "Rungs",
    "TrainSettings",
    "View",
    "check_choice",
    "check_seed",
    "nearest",
]
