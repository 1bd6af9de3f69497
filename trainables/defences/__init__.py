"""Defences, one file per method.

A defence may replace the images or the loss of a training step, and may wrap the trained model for predictions and
attacks.
"""

from trainables.defences._base import Defence, ExternalDefence, check_radius

__all__ = ["Defence", "ExternalDefence", "check_radius"]
