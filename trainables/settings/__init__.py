"""What can be asked of the training core, as plain dataclasses that are checked without importing torch.

The command line must refuse a bad value at once; importing torch takes seconds. Every message starts with the field's
name, so that a caller can put the path of the component before it (``robustness.epsilon must be ...``).
"""

from trainables.settings.data import DataSettings
from trainables.settings.problem import Problem, Rungs, TrainSettings
from trainables.settings.robustness import AUDITED_IMAGES, RobustnessSettings
from trainables.settings.threat import Norm, View

__all__ = ["AUDITED_IMAGES", "DataSettings", "Norm", "Problem", "RobustnessSettings", "Rungs", "TrainSettings", "View"]
