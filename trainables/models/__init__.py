"""Classifiers, one file per architecture. Each maps images in [0, 1] to raw logits.

Models keep no Python-side state between calls: a pass is a function of parameters, buffers and images.
"""

from trainables.models._base import ExternalModel, Model, Shape, build_model, check_logits, times

__all__ = ["ExternalModel", "Model", "Shape", "build_model", "check_logits", "times"]
